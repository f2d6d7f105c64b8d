import MerkleLog
import Testing

/// The eight-leaf tree that Certificate Transparency's implementations share as their reference
/// (certificate-transparency, `merkle_tree_test.cc`; transparency-dev/merkle, `testonly/reference_test.go`).
private enum Published {
  static let leaves = [
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
  ]
  /// Roots of the trees of the first 1 ... 8 leaves.
  static let roots = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
  ]
}

@Suite struct PublishedVectorTests {
  @Test("FIPS 180-4 examples: the tests' own SHA-256")
  func sha256() {
    #expect(hex(SHA256.hash([])) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    #expect(hex(SHA256.hash(Array("abc".utf8))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    let twoBlocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
    #expect(
      hex(SHA256.hash(Array(twoBlocks.utf8))) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1")
  }

  @Test("RFC 6962: roots of 0 to 8 leaves")
  func roots() {
    var frontier = Frontier<SHA256Hasher>()
    #expect(hex(frontier.root) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    for (leaf, root) in zip(Published.leaves, Published.roots) {
      let hash = SHA256Hasher.leaf(bytes(hex: leaf).span.bytes)
      #expect(hex(frontier.root(with: hash)) == root)
      frontier.append(hash)
      #expect(hex(frontier.root) == root)
    }
  }

  @Test("D1: the digest behind the uuid vector of design/formats.md is SHA-256")
  func derivationDigest() {
    let input =
      "6e696d6275732066696c65203100000000047765623107000000000000"
      + "0101000000000000000717979cfdfacc3f00101112131415461798191a1b1c1d1e1f"
    #expect(hex(SHA256.hash(bytes(hex: input))) == "68cbf41bba157dfe53cadff79a2bb6e03ad2ceaf81aaa8108e798df700c0fb81")
  }
}
