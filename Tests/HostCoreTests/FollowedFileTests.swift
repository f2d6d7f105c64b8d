@testable import HostCore
import JournalModel
import Testing

@Suite struct FollowedFileTests {
  private let roots = (0..<4).map { Digest(words: $0, 0, 0, 0) }
  private let inode = InodeKey(
    device: 1, filesystem: 2, identity: InodeIdentity(number: 3, generation: 4, birth: WallTime(nanoseconds: 5)))

  private func file() -> FollowedFile {
    FollowedFile(
      id: FileID(1), uuid: FileUUID(UUIDBytes(high: 1, low: 1)), inode: inode, isDerived: true,
      born: WallTime(nanoseconds: 5), path: BytePath("/log/a.log"), empty: roots[0])
  }

  @Test func whatIsCommittedStaysWhileMoreIsJournaledJ1() {
    let file = file()
    file.journal(10, roots[1])
    #expect(file.length == 10 && file.committedLength == 0 && file.committedRoot == roots[0])
    file.journal(20, roots[2])
    file.commit(10, roots[1])
    #expect(file.root == roots[2] && file.committedLength == 10 && file.committedRoot == roots[1])
    file.commit(20, roots[2])
    #expect(file.committedLength == 20 && file.committedRoot == roots[2])
    file.journal(30, roots[3])
    #expect(file.committedLength == 20)
  }

  @Test func whatFewFilesHaveIsAsIfItWereItsOwnK6() {
    let file = file()
    #expect(file.gapFrom == nil && file.failures == 0 && file.refuted.isEmpty && file.gapStart == 0)
    file.failures &+= 1
    file.refuted.append(inode)
    file.gapFrom = 7
    #expect(file.failures == 1 && file.refuted == [inode] && file.gapFrom == 7)
    file.failures = 0
    file.refuted = []
    #expect(file.gapFrom == 7)
    file.gapFrom = nil
    #expect(file.gapFrom == nil && file.refuted.isEmpty)
  }

  /// Nobody has said yet whether its inode is the journal's: what the journal has doesn't follow the path.
  @Test func whatTheJournalHasStaysUntilAReadHasToldD2() {
    let file = file()
    file.isConfirmed = false
    #expect(file.origin == nil)
    file.needsCheck = true
    #expect(file.origin == Origin(inode.stored, BytePath("/log/a.log")))
    file.path = BytePath("/log/b.log")
    file.needsCheck = true
    #expect(file.origin?.path == BytePath("/log/a.log"))
  }
}
