import Glibc

/// `HOST:PORT` as written in a configuration; IPv6 addresses stand in brackets.
package struct Address: Hashable, Sendable, CustomStringConvertible {
  package var host: String
  package var port: UInt16

  package init(host: String, port: UInt16) {
    self.host = host
    self.port = port
  }

  /// Reads `127.0.0.1:7443`, `[::1]:7443`, `logs-a.example.net:7443`.
  package init(_ text: String) throws(TransportError) {
    guard let colon = text.lastIndex(of: ":") else {
      throw TransportError(text, "has no port", hint: "write HOST:PORT")
    }
    let digits = text[text.index(after: colon)...]
    guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy({ (48...57).contains($0) }),
      let port = UInt16(digits)
    else { throw TransportError(text, "'\(digits)' is not a port (0 to 65535)") }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      guard SocketAddress.bytes(ofAddress: String(host))?.count == 16 else {
        throw TransportError(text, "'\(host)' is not an IPv6 address")
      }
    } else if host.contains(":") {
      throw TransportError(text, "an IPv6 address stands in brackets", hint: "write [ADDRESS]:PORT")
    }
    guard (1...253).contains(host.utf8.count), host.utf8.allSatisfy({ (33...126).contains($0) }) else {
      throw TransportError(text, "has no host, or one with characters that no host name has")
    }
    self.init(host: String(host), port: port)
  }

  package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

  /// Without asking anybody, if the host is an IP address.
  package var literal: SocketAddress? {
    SocketAddress.bytes(ofAddress: host).map { SocketAddress(address: $0, port: port) }
  }

  /// What can be taken for one place: an IPv4 address, the network of an IPv6 address (who has one has 2^64), a name.
  package var network: String {
    guard let address = SocketAddress.bytes(ofAddress: host).map(SocketAddress.plain) else { return host }
    let prefix = Array(address.prefix(8)) + [UInt8](repeating: 0, count: address.count == 16 ? 8 : 0)
    return (SocketAddress.text(ofAddress: prefix) ?? host) + (address.count == 16 ? "/64" : "")
  }

  /// Whether only this machine can reach it, as far as that shows without asking a resolver.
  package var isLoopback: Bool {
    guard let bytes = SocketAddress.bytes(ofAddress: host) else { return host.lowercased() == "localhost" }
    let address = SocketAddress.plain(bytes)
    return address.count == 4 ? address[0] == 127 : address == [UInt8](repeating: 0, count: 15) + [1]
  }

  /// Every address of the host, in the resolver's order (RFC 6724). May block for seconds: not for an event loop.
  package func resolve() throws(TransportError) -> [SocketAddress] {
    if let literal { return [literal] }
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let result = getaddrinfo(host, String(port), &hints, &list)
    guard result == 0 else { throw TransportError(host, "can't be resolved: \(String(cString: gai_strerror(result)))") }
    defer { freeaddrinfo(list) }
    var found: [SocketAddress] = []
    var entry = list
    while let current = entry {
      if let address = current.pointee.ai_addr, let one = SocketAddress(address, current.pointee.ai_addrlen) {
        found.append(one)
      }
      entry = current.pointee.ai_next
    }
    guard !found.isEmpty else { throw TransportError(host, "has no IPv4 or IPv6 address") }
    return found
  }
}

/// One IPv4 or IPv6 address with a port, as the kernel takes it.
package struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
  /// 4 or 16 bytes in network order.
  package let address: [UInt8]
  package let port: UInt16
  /// Of link-local IPv6 addresses; else 0.
  private let scope: UInt32

  init(address: [UInt8], port: UInt16, scope: UInt32 = 0) {
    self.address = address
    self.port = port
    self.scope = scope
  }

  init?(_ pointer: UnsafePointer<sockaddr>, _ count: socklen_t) {
    let raw = UnsafeRawPointer(pointer)
    switch Int32(pointer.pointee.sa_family) {
    case AF_INET where Int(count) >= MemoryLayout<sockaddr_in>.size:
      let value = raw.loadUnaligned(as: sockaddr_in.self)
      self.init(address: withUnsafeBytes(of: value.sin_addr) { Array($0) }, port: UInt16(bigEndian: value.sin_port))
    case AF_INET6 where Int(count) >= MemoryLayout<sockaddr_in6>.size:
      let value = raw.loadUnaligned(as: sockaddr_in6.self)
      self.init(
        address: withUnsafeBytes(of: value.sin6_addr) { Array($0) }, port: UInt16(bigEndian: value.sin6_port),
        scope: value.sin6_scope_id)
    default: return nil
    }
  }

  var isIPv6: Bool { address.count == 16 }

  package var description: String {
    let text = Self.text(ofAddress: address) ?? "?"
    return isIPv6 ? "[\(text)]:\(port)" : "\(text):\(port)"
  }

  func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
    func pass<T>(_ value: T) -> R {
      withUnsafePointer(to: value) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<T>.size)) }
      }
    }
    if isIPv6 {
      var value = sockaddr_in6()
      value.sin6_family = sa_family_t(AF_INET6)
      value.sin6_port = port.bigEndian
      value.sin6_scope_id = scope
      withUnsafeMutableBytes(of: &value.sin6_addr) { $0.copyBytes(from: address) }
      return pass(value)
    }
    var value = sockaddr_in()
    value.sin_family = sa_family_t(AF_INET)
    value.sin_port = port.bigEndian
    withUnsafeMutableBytes(of: &value.sin_addr) { $0.copyBytes(from: address) }
    return pass(value)
  }

  /// The 4 or 16 bytes of an address in text form; nil if it is none.
  static func bytes(ofAddress text: String) -> [UInt8]? {
    var four = [UInt8](repeating: 0, count: 4)
    if inet_pton(AF_INET, text, &four) == 1 { return four }
    var sixteen = [UInt8](repeating: 0, count: 16)
    return inet_pton(AF_INET6, text, &sixteen) == 1 ? sixteen : nil
  }

  /// An IPv4 address that an IPv6 socket shows (RFC 4291, 2.5.5.2) as what it is.
  static func plain(_ bytes: [UInt8]) -> [UInt8] {
    let isMapped = bytes.count == 16 && bytes.starts(with: [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF])
    return isMapped ? Array(bytes.suffix(4)) : bytes
  }

  static func text(ofAddress bytes: [UInt8]) -> String? {
    guard bytes.count == 4 || bytes.count == 16 else { return nil }
    var buffer = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let family = bytes.count == 4 ? AF_INET : AF_INET6
    guard inet_ntop(family, bytes, &buffer, socklen_t(buffer.count)) != nil else { return nil }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
