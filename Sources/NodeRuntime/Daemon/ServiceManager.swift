import Glibc

/// Tells the service manager how the node is doing (sd_notify(3)): a datagram to the socket that `NOTIFY_SOCKET` names.
package enum ServiceManager {
  /// Assignments such as `READY=1` or `STOPPING=1`, one a line. Does nothing when no service manager asked for it;
  /// never fails, since the node goes on either way. True when the datagram was sent.
  @discardableResult
  package static func notify(_ state: String) -> Bool {
    guard let name = getenv("NOTIFY_SOCKET") else { return false }
    return send(state, to: String(cString: name))
  }

  /// `@` at the beginning stands for the NUL byte of an abstract name (unix(7)).
  static func send(_ state: String, to name: String) -> Bool {
    guard name.hasPrefix("/") || name.hasPrefix("@") else { return false }
    var bytes = Array(name.utf8)
    if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
    var address = sockaddr_un()
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return false }
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let size = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count + (bytes[0] == 0 ? 0 : 1))

    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    guard number >= 0 else { return false }
    defer { close(number) }
    let text = Array(state.utf8)
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        sendto(number, text, text.count, Int32(MSG_NOSIGNAL), $0, size) == text.count
      }
    }
  }
}
