import HostCore
import JournalModel
import JournalStore
import ServerCore
import WireProtocol

/// A connection that a test drives frame by frame, over the journal of a `FakeHost` that isn't part of the world.
struct ScriptedClient {
  let world: FakeWorld
  let host: FakeHost
  let id: ConnectionID

  init(_ world: FakeWorld, _ host: FakeHost, names: [String]? = nil, hello: Bool = true) {
    self.world = world
    self.host = host
    id = world.open(names: names ?? [host.name.text])
    if hello { send(host.hello) }
  }

  func send(_ frame: Frame) { world.send(frame, on: id) }

  /// All records of the journal from `first` on, in one frame.
  func sendRecords(from first: UInt64 = 0) { send(host.recordFrame(first..<UInt64(host.records.count))) }

  func payload(_ index: Int, _ range: Range<Int>, _ bytes: [UInt8]? = nil) {
    let header = PayloadHeader(file: host.files[index].uuid, offset: UInt64(range.lowerBound), length: range.count)
    world.send(header, bytes ?? Array(host.files[index].bytes[range]), on: id)
  }

  /// Everything that can happen happens.
  func settle() { world.drain() }

  var frames: [Frame] { world.answers[id] ?? [] }
  var pings: Int { frames.count { if case .ping = $0 { true } else { false } } }
  var closed: RefusalCode? { world.closed[id] }
  var refusals: [RefusalCode] { frames.compactMap { if case .refusal(let refusal) = $0 { refusal.code } else { nil } } }

  var recordsDurable: UInt64? {
    frames.compactMap { if case .recordsDurable(let head) = $0 { head.length } else { nil } }.last
  }

  func durable(_ index: Int) -> UInt64 {
    let held = frames.flatMap { if case .payloadDurable(let held) = $0 { held } else { [DurablePrefix]() } }
    return held.last { $0.file == host.files[index].uuid }?.length ?? 0
  }

  /// Payload bytes that reached the server.
  var sent: UInt64 { world.sent[id] ?? 0 }

  var credit: UInt64 {
    frames.compactMap {
      if case .credit(let total) = $0 { total } else if case .welcome(let welcome) = $0 { welcome.credit } else { nil }
    }.last ?? 0
  }

  var answers: [[HeldFile]] { frames.compactMap { if case .resumeAnswer(let files) = $0 { files } else { nil } } }

  /// The plain file's bytes.
  func stored(_ index: Int) -> [UInt8]? {
    let key = FileKey(host: host.name, file: host.files[index].uuid)
    let row = (try? world.store.strings())?.first { $0.key.key == key }
    return row.flatMap { world.disk[$0.stored]?.cache }
  }
}

extension FakeWorld {
  /// A world without hosts of its own.
  static func empty(_ limits: Limits = smallLimits(), totalCredit: Int = 4_096) -> FakeWorld {
    let world = FakeWorld(hosts: [], limits: limits, totalCredit: totalCredit)
    world.start()
    return world
  }

  var refusedReports: [RefusalCode] {
    reports.compactMap {
      switch $0 {
      case .peerRefused(_, let code, _), .refused(_, _, let code, _): code
      default: nil
      }
    }
  }

  var problems: [String] { complaints + disk.complaints }
}
