import CLinux
import Foundation
import JournalModel
import SimulatedWorld
import Testing

@testable import LinuxIO

/// Writes past the page cache beside such through it, on what file systems this machine has.
@Suite struct DirectWritesTests {
  /// One file, and what it must hold.
  private final class Bed {
    let path: String
    let file: Descriptor
    var model: [UInt8] = []

    init(in directory: String) throws {
      path = directory + "/direct-" + UUID().uuidString
      #expect(FileManager.default.createFile(atPath: path, contents: nil))
      file = try Descriptor.open(BytePath(path), O_RDWR)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func put(_ bytes: [UInt8], at offset: Int) {
      let hole = [UInt8](repeating: 0, count: max(0, offset - model.count))
      let behind = model.dropFirst(offset + bytes.count)
      model = Array(model.prefix(offset)) + hole + bytes + behind
    }

    /// By somebody who has just opened it.
    func differs(_ range: Range<Int>) throws -> Bool {
      let other = try Descriptor.open(BytePath(path), O_RDONLY)
      return try other.bytes(at: UInt64(range.lowerBound), count: range.count) != Array(model[range])
    }
  }

  /// What this machine has, whether or not it knows direct writes.
  private static var directories: [String] {
    let memory = "/dev/shm"
    return [NSTemporaryDirectory()] + (FileManager.default.isWritableFile(atPath: memory) ? [memory] : [])
  }

  /// Made once: it takes long where nothing is optimized.
  private static let noise = pattern(4_000_000)

  private func bytes(_ count: Int, _ chance: inout RandomStream) -> [UInt8] {
    let start = chance.below(Self.noise.count - count + 1)
    return Array(Self.noise[start..<(start + count)])
  }

  private func pieces(_ bytes: [UInt8], _ chance: inout RandomStream) -> [ArraySlice<UInt8>] {
    var pieces: [ArraySlice<UInt8>] = []
    var position = 0
    while position < bytes.count {
      let count = min(bytes.count - position, chance.below(2) == 0 ? 1 + chance.below(300) : 1 + chance.below(100_000))
      pieces.append(bytes[position..<(position + count)])
      position += count
    }
    return pieces
  }

  @Test(arguments: 1...4) func `Direct and cached writes of any range leave what was written last`(seed: Int) throws {
    for directory in Self.directories {
      let bed = try Bed(in: directory)
      let direct = DirectWrites(least: 1)
      var chance = RandomStream(seed: UInt64(seed), entity: "disk", purpose: "writes")
      for round in 0..<40 {
        let bytes = bytes(1 + chance.below(chance.below(8) == 0 ? 3_900_000 : 40_000), &chance)
        // Mostly at the end, as a server writes; else over something, or beyond the end.
        let offset = chance.below(3) > 0 ? bed.model.count : chance.below(bed.model.count + 10_000)
        let aligned = chance.below(2) == 0 ? offset / 4_096 * 4_096 : offset
        if chance.below(3) > 0 {
          try direct.write(pieces(bytes, &chance), to: bed.file, at: UInt64(aligned))
        } else {
          try bed.file.writeFully(pieces(bytes, &chance), at: UInt64(aligned))
        }
        bed.put(bytes, at: aligned)
        if chance.below(4) == 0 { try bed.file.syncData() }
        let lower = chance.below(bed.model.count)
        #expect(try !bed.differs(lower..<min(bed.model.count, lower + 200_000)), "\(directory), round \(round)")
        if bed.model.count > 24 << 20 { break }
      }
      try bed.file.syncData()
      posix_fadvise(bed.file.number, 0, 0, POSIX_FADV_DONTNEED)
      #expect(try bed.file.size() == UInt64(bed.model.count))
      #expect(try !bed.differs(0..<bed.model.count), "\(directory), in the end")
    }
  }

  @Test(arguments: [false, true])
  func `Where a file system refuses direct writes all goes through the cache from then on`(whenWriting: Bool) throws {
    for directory in Self.directories {
      let bed = try Bed(in: directory)
      // A disk asks for more than single bytes: it refuses the write itself.
      let direct = DirectWrites(least: 1, leastAlignment: 1) { _ throws(SystemError) in
        if whenWriting { return 1 }
        throw SystemError("statx", code: EOPNOTSUPP)
      }
      for (offset, count) in [(0, 1), (1, 3_000_001), (77, 100_000), (3_000_002, 5_000)] {
        let bytes = Array(Self.noise[offset..<(offset + count)])
        try direct.write([bytes[...]], to: bed.file, at: UInt64(offset))
        bed.put(bytes, at: offset)
        #expect(whenWriting || direct.isRefused)
        #expect(try !bed.differs(0..<bed.model.count))
      }
    }
  }

  @Test func `A lack of descriptors is no answer of the file system`() throws {
    let bed = try Bed(in: NSTemporaryDirectory())
    let direct = DirectWrites(least: 1) { _ throws(SystemError) in throw SystemError("statx", code: EMFILE) }
    let bytes = pattern(10_000)
    try direct.write([bytes[...]], to: bed.file, at: 5)
    bed.put(bytes, at: 5)
    #expect(!direct.isRefused)
    #expect(try !bed.differs(0..<bed.model.count))
  }
}
