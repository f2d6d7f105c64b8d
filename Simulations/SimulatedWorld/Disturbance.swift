/// Rarer operations, drawn from a stream of their own (`DisturbanceGenerator`).
package enum Disturbance: Hashable, Sendable {
  // Writers.
  /// A hole at the end: the file grows and nobody wrote the bytes.
  case extend(host: Int, path: String, count: Int)
  /// Bytes are written over in place (D6).
  case overwrite(host: Int, path: String, position: Int, count: Int)
  /// The file's bytes in another form under `path.gz`; after `delay` the original is removed.
  case compress(host: Int, path: String, delay: UInt64)

  // The medium. Damage strikes one server of a run only, and only if there is another one.
  /// A page of the `file`-th file can't be read, for so long; 0: once.
  case spoil(Node, file: Int, page: Int, duration: UInt64)
  case rot(server: Int, file: Int, position: Int)
  /// The next page that a sync should write isn't written, or over another file.
  case misplace(server: Int, isLost: Bool)
  case backUp(server: Int)
  /// Killed, its store is put back to the backup beside the plain files as they are, started again after a while.
  case restore(server: Int, pause: UInt64)
  /// Lost for ever, replaced by an empty one.
  case replace(server: Int, pause: UInt64)

  /// One of the host's file systems answers nothing.
  case hang(host: Int, fileSystem: Int, duration: UInt64)

  // The network.
  /// Deliveries end beside the boundaries of frames.
  case boundaries(host: Int, server: Int, duration: UInt64)
  /// One byte at a time.
  case dribble(host: Int, server: Int, duration: UInt64)
  /// The connection is reset `offset` bytes after the `frames`-th frame from now on.
  case cutFrame(host: Int, server: Int, toServer: Bool, frames: Int, offset: Int)
  /// The host gives the connection up; what it sent comes so much later, beside the next connection.
  case drain(host: Int, server: Int, duration: UInt64)
  /// Links are clogged one after the other and freed in another order.
  case swizzle(salt: UInt64, duration: UInt64)

  // Time and the operator.
  /// The wall clock runs at so many thousandths of its speed.
  case runClock(Node, permille: Int, duration: UInt64)
  /// The host's node starts again with or without the server.
  case configure(host: Int, server: Int, isConfigured: Bool)
  case attack(server: Int, Attack)
}

extension Disturbance: CustomStringConvertible {
  package var description: String {
    switch self {
    case .extend(let host, let path, let count): "extend host\(host) \(path) \(count)"
    case .overwrite(let host, let path, let position, let count):
      "overwrite host\(host) \(path) \(position) \(count)"
    case .compress(let host, let path, let delay): "compress host\(host) \(path) \(delay)"
    case .spoil(let node, let file, let page, let duration): "spoil \(node) \(file) \(page) \(duration)"
    case .hang(let host, let fileSystem, let duration): "hang host\(host) \(fileSystem) \(duration)"
    case .rot(let server, let file, let position): "rot server\(server) \(file) \(position)"
    case .misplace(let server, let isLost): "misplace server\(server) \(isLost ? "lost" : "misdirected")"
    case .backUp(let server): "backup server\(server)"
    case .restore(let server, let pause): "restore server\(server) \(pause)"
    case .replace(let server, let pause): "replace server\(server) \(pause)"
    case .boundaries(let host, let server, let duration): "boundaries host\(host) server\(server) \(duration)"
    case .dribble(let host, let server, let duration): "dribble host\(host) server\(server) \(duration)"
    case .cutFrame(let host, let server, let toServer, let frames, let offset):
      "cutframe host\(host) server\(server) \(toServer ? "up" : "down") \(frames) \(offset)"
    case .drain(let host, let server, let duration): "drain host\(host) server\(server) \(duration)"
    case .swizzle(let salt, let duration): "swizzle \(salt) \(duration)"
    case .runClock(let node, let permille, let duration): "runclock \(node) \(permille) \(duration)"
    case .configure(let host, let server, let isConfigured):
      "configure host\(host) server\(server) \(isConfigured ? "in" : "out")"
    case .attack(let server, let attack): "attack server\(server) \(attack.rawValue)"
    }
  }

  init?(_ verb: String, _ r: inout WordReader) {
    guard let read = Self.ofFiles(verb, &r) ?? Self.ofServers(verb, &r) ?? Self.ofLinks(verb, &r) else { return nil }
    self = read
  }

  private static func ofFiles(_ verb: String, _ r: inout WordReader) -> Disturbance? {
    switch verb {
    case "extend":
      guard let host = r.host(), let path = r.word(), let count = r.int(), count >= 0 else { return nil }
      return .extend(host: host, path: path, count: count)
    case "overwrite":
      guard let host = r.host(), let path = r.word(), let position = r.int(), position >= 0, let count = r.int(),
        count >= 0
      else { return nil }
      return .overwrite(host: host, path: path, position: position, count: count)
    case "compress":
      guard let host = r.host(), let path = r.word(), let delay = r.time() else { return nil }
      return .compress(host: host, path: path, delay: delay)
    case "hang":
      guard let host = r.host(), let fileSystem = r.int(), fileSystem >= 0, let time = r.time() else { return nil }
      return .hang(host: host, fileSystem: fileSystem, duration: time)
    case "spoil":
      guard let node = r.node(), let file = r.int(), file >= 0, let page = r.int(), page >= 0, let time = r.time()
      else {
        return nil
      }
      return .spoil(node, file: file, page: page, duration: time)
    default: return nil
    }
  }

  private static func ofLinks(_ verb: String, _ r: inout WordReader) -> Disturbance? {
    if verb == "swizzle" {
      return r.time().flatMap { salt in r.time().map { .swizzle(salt: salt, duration: $0) } }
    }
    if verb == "runclock" {
      guard let node = r.node(), let permille = r.int(), permille >= 0, let duration = r.time() else { return nil }
      return .runClock(node, permille: permille, duration: duration)
    }
    guard ["boundaries", "dribble", "cutframe", "drain", "configure"].contains(verb), let host = r.host(),
      let server = r.server()
    else { return nil }
    switch verb {
    case "boundaries": return r.time().map { .boundaries(host: host, server: server, duration: $0) }
    case "dribble": return r.time().map { .dribble(host: host, server: server, duration: $0) }
    case "drain": return r.time().map { .drain(host: host, server: server, duration: $0) }
    case "configure":
      return r.choice("in", "out").map { .configure(host: host, server: server, isConfigured: $0) }
    default:
      guard let up = r.choice("up", "down"), let frames = r.int(), let offset = r.int() else { return nil }
      return .cutFrame(host: host, server: server, toServer: up, frames: frames, offset: offset)
    }
  }

  private static func ofServers(_ verb: String, _ r: inout WordReader) -> Disturbance? {
    guard ["rot", "misplace", "backup", "restore", "replace", "attack"].contains(verb), let server = r.server() else {
      return nil
    }
    switch verb {
    case "rot":
      guard let file = r.int(), file >= 0, let position = r.int(), position >= 0 else { return nil }
      return .rot(server: server, file: file, position: position)
    case "misplace": return r.choice("lost", "misdirected").map { .misplace(server: server, isLost: $0) }
    case "attack": return r.word().flatMap { Attack(rawValue: $0) }.map { .attack(server: server, $0) }
    case "backup": return .backUp(server: server)
    case "restore": return r.time().map { .restore(server: server, pause: $0) }
    default: return r.time().map { .replace(server: server, pause: $0) }
    }
  }
}

extension Disturbance {
  /// The host whose log files change.
  var writesOn: Int? {
    switch self {
    case .extend(let host, _, _), .overwrite(let host, _, _, _), .compress(let host, _, _): host
    default: nil
    }
  }

  /// What it counts as among the faults of a run; nil where it is counted when it strikes.
  var faultName: String? {
    switch self {
    case .extend: "hole"
    case .compress: "compress"
    case .backUp: "backup server"
    case .boundaries: "deliveries beside boundaries"
    case .dribble: "single bytes"
    case .swizzle: "swizzle-clog"
    case .runClock(_, let permille, _): permille == 0 ? "clock freeze" : "clock drift"
    case .hang: "hang host"
    case .overwrite, .spoil, .rot, .misplace, .restore, .replace, .cutFrame, .drain, .configure, .attack:
      nil
    }
  }
}
