import SecureTransport

/// A server, as hosts and peers know it.
struct Destination: Sendable {
  /// The name in its certificate.
  var name: String
  var address: Address

  /// Asks name servers. A name may have several addresses: each attempt takes the next.
  func resolve(_ attempt: Int) -> Result<SocketAddress, TransportError> {
    do throws(TransportError) {
      let found = try address.resolve()
      return .success(found[attempt % found.count])
    } catch { return .failure(error) }
  }
}
