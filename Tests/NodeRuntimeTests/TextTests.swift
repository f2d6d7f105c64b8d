import Foundation
import Glibc
import HostCore
import JournalModel
import Logging
import ServerCore
import Synchronization
import Testing
import WireProtocol

@testable import NodeRuntime

@Suite struct PathTextTests {
  static let paths: [(bytes: [UInt8], text: String)] = [
    (Array("/var/log/a b.log".utf8), "/var/log/a b.log"), (Array("/größe/日本".utf8), "/größe/日本"),
    (Array("/100%".utf8), "/100%25"), (Array("/a\nb\t\u{1B}[2J".utf8), "/a%0Ab%09%1B[2J"),
    ([0x2F, 0xFF, 0xC3, 0x28], "/%FF%C3("), (Array("/\u{202E}x\u{2028}".utf8), "/%E2%80%AEx%E2%80%A8"),
    ([0x2F, 0xE2, 0x82], "/%E2%82"), ([], ""), (Array("/e\u{301}".utf8), "/e\u{301}"),
  ]

  @Test(arguments: paths)
  func pathsAreEscapedWhereNotPrintable(_ bytes: [UInt8], _ text: String) {
    #expect(BytePath(bytes).escaped == text)
  }

  @Test func everyByteStringCanBeReadBack() {
    var chance = SeededGenerator(seed: 7)
    for _ in 0..<2_000 {
      let bytes = (0..<Int.random(in: 0...40, using: &chance)).map { _ in UInt8.random(in: 1...255, using: &chance) }
      let text = BytePath(bytes).escaped
      #expect(unescaped(text) == bytes)
      #expect(text.unicodeScalars.allSatisfy { $0.properties.generalCategory.isPrintable })
    }
  }

  private func unescaped(_ text: String) -> [UInt8] {
    var result: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        result.append(byte)
        continue
      }
      result += [UInt8](hex: String(decoding: rest.prefix(2), as: UTF8.self)) ?? []
      rest = rest.dropFirst(2)
    }
    return result
  }
}

@Suite struct TimeTextTests {
  @Test(
    arguments: [
      (0, "1970-01-01T00:00:00.000Z"), (1_795_362_600_123_456_789, "2026-11-22T15:50:00.123Z"),
      (-1, "1969-12-31T23:59:59.999Z"), (951_782_400_000_000_000, "2000-02-29T00:00:00.000Z"),
    ] as [(Int64, String)])
  func timesAreRFC3339(_ nanoseconds: Int64, _ text: String) {
    #expect(WallTime(nanoseconds: nanoseconds).rfc3339 == text)
  }

  @Test func nanosecondsAreKeptWhereAsked() {
    #expect(WallTime(nanoseconds: 7).rfc3339Nanoseconds == "1970-01-01T00:00:00.000000007Z")
    _ = WallTime(nanoseconds: .max).rfc3339
    _ = WallTime(nanoseconds: .min + 1_000_000_000).rfc3339
  }
}

@Suite struct LineLogTests {
  @Test func oneEventIsOneLine() {
    let line = LineLog.line(
      WallTime(nanoseconds: 0), .warning, "a file\nwas forged 2026 error",
      ["path": "/a\n1970-01-01T00:00:00.000Z error forged", "b": "x=y \"z\" \\", "a": "plain/1.2:3", "c": ""])
    #expect(
      line
        == "1970-01-01T00:00:00.000Z warning a file\\nwas forged 2026 error a=plain/1.2:3 b=\"x=y \\\"z\\\" \\\\\" c=\"\" "
        + "path=\"/a\\n1970-01-01T00:00:00.000Z error forged\"\n")
  }

  @Test func nothingFromAfarMovesTheCursorOrForgesAPair() {
    var chance = SeededGenerator(seed: 99)
    for _ in 0..<2_000 {
      let text = String(
        String.UnicodeScalarView(
          (0..<30).compactMap { _ in Unicode.Scalar(UInt32.random(in: 0...0x2100, using: &chance)) }))
      let line = LineLog.line(WallTime(nanoseconds: 0), .info, "m", ["k": text])
      #expect(line.hasSuffix("\n"))
      #expect(line.dropLast().unicodeScalars.allSatisfy { $0.properties.generalCategory.isPrintable })
      // Quotes within are escaped: the value ends where it ends.
      let value = line.dropLast().split(separator: "k=", maxSplits: 1)[1]
      if value.unicodeScalars.first == "\"" {
        #expect(value.unicodeScalars.last == "\"")
        var isEscaped = false
        var ends = 0
        for scalar in value.unicodeScalars.dropFirst() {
          if isEscaped {
            isEscaped = false
          } else if scalar == "\\" {
            isEscaped = true
          } else if scalar == "\"" {
            ends += 1
          }
        }
        #expect(ends == 1)
      }
    }
  }

  @Test func aValueIsBounded() {
    #expect(LineLog.value(String(repeating: "x", count: 1 << 20)).utf8.count < 20_000)
  }
}

@Suite struct LineWriterTests {
  @Test func aReaderThatStopsReadingStopsNobodyAndWhatItMissedIsSaid() throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    let writer = LineWriter(ends[1])
    let line = String(repeating: "x", count: 999) + "\n"
    let took = ContinuousClock().measure { for _ in 0..<5_000 { writer.write(line) } }
    #expect(took < .seconds(5))
    var seen: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    _ = fcntl(ends[0], F_SETFL, O_NONBLOCK)
    while case let count = read(ends[0], &buffer, buffer.count), count > 0 { seen += buffer[..<count] }
    writer.write("after\n")
    while case let count = read(ends[0], &buffer, buffer.count), count > 0 { seen += buffer[..<count] }
    let lines = String(decoding: seen, as: UTF8.self).split(separator: "\n")
    #expect(lines.last == "after")
    let whole = lines.count { $0.utf8.count == 999 }
    #expect(lines.dropLast().last?.hasSuffix("warning \(5_000 - whole) lines were lost: nobody read the log") == true)
  }

  @Test func longLinesComeWholeAndInOrder() throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    let writer = LineWriter(ends[1])
    let line = (0..<5_000).map { "\($0)," }.joined() + "\n"
    writer.write(line)
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    let count = read(ends[0], &buffer, buffer.count)
    #expect(String(decoding: buffer.prefix(max(0, count)), as: UTF8.self) == line)
  }
}

@Suite struct ReportLogTests {
  /// Lines that a log has got.
  final class Lines: Sendable {
    private let lines = Mutex<[String]>([])
    func add(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
  }

  static func log(_ level: Logger.Level = .info) -> (ReportLog, Lines) {
    let lines = Lines()
    let logger = Logger(label: "test") { _ in LineLog(level: level) { lines.add($0) } }
    return (ReportLog(logger: logger, servers: ["logs-a"]), lines)
  }

  static func second(_ n: UInt64) -> Instant { Instant(nanoseconds: (1_000 + n) * 1_000_000_000) }
  static let down = HostReport.serverDown(ServerIndex(0), reason: "Connection refused")

  @Test func aRepeatedReportIsWrittenOnceAndCounted() {
    let (log, lines) = Self.log()
    for n in 0..<1_000 { log.report(Self.down, at: Self.second(0) + .milliseconds(UInt64(n))) }
    #expect(lines.all.count == 1)
    #expect(lines.all[0].contains("server=logs-a") && lines.all[0].contains("why=\"Connection refused\""))
    log.report(Self.down, at: Self.second(61))
    #expect(lines.all.count == 3)
    #expect(lines.all[1].contains("suppressed=999"))
  }

  @Test func aFloodOfOneKindIsBoundedAndHidesNoOther() {
    let (log, lines) = Self.log()
    for n in 0..<100_000 {
      log.report(
        .refused(ServerIndex(0), FileUUID(UUIDBytes(high: 1, low: UInt64(n))), nil, .conflict, "x"), at: Self.second(0))
    }
    #expect(lines.all.count == 1)
    log.report(.journalBlocked("disk full"), at: Self.second(1))
    #expect(lines.all.last?.contains("error the journal can't be written") == true)
    log.flush(at: Self.second(100))
    #expect(lines.all.last?.contains("of=logs-a suppressed=99999") == true)
  }

  private static func conflict(_ host: String, _ n: Int) throws -> ServerReport {
    let host = try #require(HostName(host))
    let file = FileUUID(UUIDBytes(high: 1, low: UInt64(n)))
    return .refused(FileKey(host: host, file: file), BytePath("/x"), .conflict, "other bytes")
  }

  @Test func oneHostsFloodHidesNoOthersReportA5() throws {
    let (log, lines) = Self.log()
    for n in 0..<50_000 { log.report(try Self.conflict("web1", n), at: Self.second(0)) }
    let flood = lines.all.count
    #expect(flood == 1)
    for n in 0..<20 { log.report(try Self.conflict("web\(2 + n)", 1), at: Self.second(1)) }
    #expect(lines.all.count == flood + 20)
    log.flush(at: Self.second(100))
    #expect(lines.all.count == flood + 21)
    #expect(lines.all.last?.contains("kind=refused of=web1 suppressed=\(50_000 - flood)") == true)
  }

  @Test func repeatsAreToldFromNewsHoweverMuchOthersSayA5() throws {
    let (log, lines) = Self.log()
    // More different reports than any table of them should hold.
    for n in 0..<20_000 { log.report(try Self.conflict("web1", n), at: Self.second(0)) }
    let before = lines.all.count
    for _ in 0..<1_000 { log.report(try Self.conflict("web2", 7), at: Self.second(1)) }
    #expect(lines.all.count == before + 1)
  }

  @Test func strangersFromAnywhereAreBoundedAndHideNoHostA5() throws {
    let (log, lines) = Self.log()
    func stranger(_ address: String, _ why: String) -> ServerReport {
      .peerRefused(Peer(names: [], address: address), .other, why)
    }
    for n in 0..<100_000 {
      let address = "10.\(n >> 16 & 255).\(n >> 8 & 255).\(n & 255):\(n % 60_000 + 1)"
      log.report(stranger(address, "\(n)"), at: Self.second(0))
    }
    #expect(lines.all.count <= 64 + 20)
    // One network of IPv6 addresses is one place, and IPv4 addresses on an IPv6 socket are many.
    let (six, sixLines) = Self.log()
    for n in 0..<10_000 { six.report(stranger("[2001:db8::\(String(n, radix: 16))]:9", "\(n)"), at: Self.second(0)) }
    #expect(sixLines.all.count == 1)
    for n in 1...3 { six.report(stranger("[::ffff:192.0.2.\(n)]:9", "x"), at: Self.second(0)) }
    #expect(sixLines.all.count == 4)
    let before = lines.all.count
    log.report(.peerRefused(Peer(names: ["web1"], address: "10.0.0.1:5"), .nameNotYours, "web2"), at: Self.second(1))
    #expect(lines.all.count == before + 1)
  }

  @Test func failuresOfLatestAreBoundedLikeAllElseA5() throws {
    let (log, lines) = Self.log()
    let host = try #require(HostName("web1"))
    for n in 0..<3_000 { log.log(.unlinked(host, BytePath("/\(n)"), "Not a directory"), at: Self.second(0)) }
    #expect(lines.all.count == 1)
  }

  @Test func manyWhoHadReportsLeftOutAreCountedInFewLinesA5() throws {
    let (log, lines) = Self.log()
    for host in 0..<300 { for n in 0..<60 { log.report(try Self.conflict("web\(host)", n), at: Self.second(0)) } }
    let before = lines.all.count
    #expect(before == 300)
    log.flush(at: Self.second(100))
    #expect(lines.all.count == before + ReportLog.countsListed + 1)
    #expect(lines.all.last?.contains("of=\"280 more\" suppressed=16520") == true)
  }

  @Test func oneDirectorysTroubleHidesNoOthersA5() {
    let (log, lines) = Self.log()
    for n in 0..<5_000 { log.report(.unreadable(BytePath("/home/u/\(n)"), "EACCES"), at: Self.second(0)) }
    let before = lines.all.count
    log.report(.unreadable(BytePath("/var/log/important"), "EACCES"), at: Self.second(0))
    #expect(lines.all.count == before + 1)
  }

  // MARK: A flood is one report (issue 8)

  private static func refusedPeer(_ names: [String], _ code: RefusalCode, _ why: String) -> ServerReport {
    .peerRefused(Peer(names: names, address: "127.0.0.1:9"), code, why)
  }

  @Test func strangersWhoAreCutOffForTwoReasonsAreOneReportThatTellsBothA5() {
    let (log, lines) = Self.log()
    let crowded = "TLS handshake: it didn't say who it is, and its place was needed"
    for _ in 0..<500 { log.report(Self.refusedPeer([], .other, crowded), at: Self.second(0)) }
    for _ in 0..<200 { log.report(Self.refusedPeer([], .other, "TLS handshake: closed"), at: Self.second(1)) }
    #expect(lines.all.count == 1)
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 2)
    #expect(lines.all[1].contains("suppressed=699") && lines.all[1].contains("of=127.0.0.1"))
    #expect(lines.all[1].contains("\(crowded) (499)") && lines.all[1].contains("TLS handshake: closed (200)"))
  }

  @Test func oneCertificatesManyWaysToFloodAreOneReportThatTellsThemA5() throws {
    let (log, lines) = Self.log()
    let host = try #require(HostName("web1"))
    let file = FileKey(host: host, file: FileUUID(UUIDBytes(high: 1, low: 2)))
    for _ in 0..<100 { log.report(Self.refusedPeer(["web1"], .busy, "no hello"), at: Self.second(0)) }
    for n in 0..<100 { log.report(Self.refusedPeer(["web1"], .protocolViolation, "byte \(n)"), at: Self.second(1)) }
    for _ in 0..<100 { log.report(.refused(file, nil, .unknownFile, "no birth"), at: Self.second(2)) }
    for _ in 0..<100 { log.report(Self.refusedPeer(["web1"], .quota, "too much"), at: Self.second(3)) }
    #expect(lines.all.count == 1)
    log.report(Self.refusedPeer(["web2"], .quota, "too much"), at: Self.second(4))
    #expect(lines.all.count == 2, "another's is not swallowed")
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 3)
    for said in [
      "busy: no hello (99)", "protocolViolation: byte 0 (100)", "unknownFile: no birth (100)", "quota: too much (100)",
    ] {
      #expect(lines.all[2].contains(said), "\(said)")
    }
  }

  @Test func filesOfAFloodAreOneReportThatNamesSomeP1() throws {
    let (log, lines) = Self.log()
    let host = try #require(HostName("web1"))
    for n in 0..<14 { log.log(.unlinked(host, BytePath("/deep/\(n)"), "File name too long"), at: Self.second(0)) }
    #expect(lines.all.count == 1)
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 2)
    #expect(lines.all[1].contains("File name too long (13)") && lines.all[1].contains("files=\"/deep/1, /deep/2,"))
    #expect(lines.all[1].contains("of=web1"))
  }

  @Test func gapsBeyondTheFirstAreNamedWhileTheyAreFewG7() throws {
    let (log, lines) = Self.log()
    let host = try #require(HostName("web1"))
    for name in ["/a", "/b", "/c"] {
      let gap = Gap(
        subject: .path(BytePath(name)), lower: 0, upper: 9, reason: .vanished, provenLength: 0, provenRoot: .zero)
      log.report(.gap(host, gap), at: Self.second(0))
    }
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 2)
    #expect(lines.all[0].contains("path=/a") && lines.all[1].contains("files=\"/b, /c\""))
  }

  /// A minute begins with the first report, not wherever the log's own happens to end.
  @Test func aFloodOfLessThanAMinuteIsOneReportWheneverItBeginsA5() {
    let (log, lines) = Self.log()
    for begin in [30, 230, 459] as [UInt64] {
      let before = lines.all.count
      log.flush(at: Self.second(begin))
      for n in 0..<50 as Range<UInt64> { log.report(Self.refusedPeer([], .other, "\(n)"), at: Self.second(begin + n)) }
      #expect(lines.all.count == before + 1, "\(begin)")
      log.flush(at: Self.second(begin + 100))
      #expect(lines.all.count == before + 2, "\(begin)")
    }
  }

  @Test func theReasonsAndNamesOfASummaryAreBounded() {
    let (log, lines) = Self.log()
    for n in 0..<100 {
      let name = String(repeating: "x", count: 1_000)
      log.report(
        .refused(
          ServerIndex(0), FileUUID(UUIDBytes(high: 1, low: UInt64(n))), BytePath("/\(n)\(name)"), .conflict, "x"),
        at: Self.second(0))
      log.report(Self.refusedPeer([], .other, "\(n)\(name)"), at: Self.second(0))
    }
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 4)
    #expect(lines.all.dropFirst(2).allSatisfy { $0.utf8.count < 6_000 && $0.contains("suppressed=99") })
    #expect(lines.all.contains { $0.contains("other reasons (") })
  }

  /// A server that couldn't be reached and now floods is news; how often, and in which words, isn't.
  @Test func anotherReasonWhyAServerIsGoneIsNewsAndItsOwnWordsAreNotA5() {
    let (log, lines) = Self.log()
    func down(_ why: String) { log.report(.serverDown(ServerIndex(0), reason: why), at: Self.second(0)) }
    for _ in 0..<5 { down("Connection refused") }
    for _ in 0..<5 { down("the server sends too much that brings nothing: unasked frames, or key updates") }
    for n in 0..<50 { down("the server says goodbye: busy: \(n) words") }
    for n in 0..<50 { down("frame at byte \(n): unknown type \(n)") }
    #expect(lines.all.count == 4)
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 5 && lines.all[4].contains("suppressed=106"))
  }

  /// What a stopping node has not told yet it tells.
  @Test func whatWasLeftOutIsCountedAtTheEnd() {
    let (log, lines) = Self.log()
    for _ in 0..<5 { log.report(Self.down, at: Self.second(0)) }
    log.end()
    #expect(lines.all.count == 2)
    #expect(lines.all.last?.contains("suppressed=4") == true)
  }

  /// A host that comes and goes is no warning.
  @Test func theCountIsAsLoudAsWhatItCounts() throws {
    let (log, lines) = Self.log()
    let host = try #require(HostName("web1"))
    for _ in 0..<5 { log.report(.hostDisconnected(host, "bye"), at: Self.second(0)) }
    log.flush(at: Self.second(100))
    #expect(lines.all.count == 2)
    #expect(lines.all[1].contains(" info more of the same"))
  }

  @Test func differentReportsAreAllWritten() {
    let (log, lines) = Self.log(.debug)
    let file = FileUUID(UUIDBytes(high: 1, low: 2))
    let path = BytePath(Array("/a\nforged".utf8))
    let gap = Gap(
      subject: .file(file), lower: 3, upper: .max, reason: .truncated, provenLength: 3, provenRoot: .zero)
    let reports: [HostReport] = [
      .born(file, path), .rotated(file, from: path, to: nil), .truncated(file, path, length: 3, next: file),
      .closed(file, path, length: 3, .deleted), .gap(gap, path, lacking: [ServerIndex(0)]), .waiting(file, path, "why"),
      .resumed(file, path),
      .unreadable(path, "EACCES"), .unwatched(path), .serverUp(ServerIndex(0), records: 2), Self.down,
      .refused(ServerIndex(0), nil, nil, .badSignature, "x\ny"), .journalBlocked("full"), .journalUnblocked,
      .setApart(file, path, "damaged"),
    ]
    for report in reports { log.report(report, at: Self.second(0)) }
    #expect(lines.all.count == reports.count)
    #expect(lines.all.allSatisfy { $0.filter { $0 == "\n" }.count == 1 && $0.hasSuffix("\n") })
  }

  @Test func statusNamesWhatIsSetApartAndCountsTheRest() throws {
    var status = NodeStatus(name: "n", roles: ["host"], settled: false)
    status.setApart = (0..<100).map {
      .init(host: "web1", file: "f\($0)", path: "/log/\($0)", reason: "leaf 3 differs")
    }
    status.setApart[0] = .init(host: "web1", journal: "j0", reason: "meta")
    status.setApartCount = 250
    let lines = StatusText(status).text.split(separator: "\n")
    #expect(lines.contains("250 set apart until a restart:"))
    #expect(lines.contains("  web1: journal j0: meta") && lines.contains("  web1: /log/1: leaf 3 differs"))
    #expect(lines.count { $0.contains("leaf 3 differs") } == 19)
  }

  @Test func serverReportsNameHostAndPeer() throws {
    let (log, lines) = Self.log(.debug)
    let host = try #require(HostName("web1"))
    let key = FileKey(host: host, file: FileUUID(UUIDBytes(high: 1, low: 2)))
    let gap = Gap(
      subject: .path(BytePath("/x")), lower: 0, upper: 9, reason: .vanished, provenLength: 0, provenRoot: .zero)
    let reports: [ServerReport] = [
      .hostConnected(host, journal: JournalID(UUIDBytes(high: 3, low: 4)), records: 1), .hostDisconnected(host, "bye"),
      .peerRefused(Peer(names: ["web3"], address: "10.0.0.1:5"), .nameNotYours, "web2"),
      .born(key, stored: BytePath("files/web1/x")), .gap(host, gap),
      .refused(key, BytePath("/x"), .conflict, "other bytes"),
      .setAside(key, BytePath("files/web1/x.aside")), .repairFailed(key, "EIO"), .storeBlocked("full"), .storeUnblocked,
    ]
    for report in reports { log.report(report, at: Self.second(0)) }
    #expect(lines.all.count == reports.count)
    #expect(lines.all[2].contains("names=web3") && lines.all[2].contains("address=10.0.0.1:5"))
    #expect(lines.all[4].contains("host=web1"))
  }
}
