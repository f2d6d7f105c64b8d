import COpenSSL

/// One reference to an OpenSSL object, given back at the end of its life.
struct Owned: ~Copyable {
  let pointer: OpaquePointer
  private let free: @Sendable (OpaquePointer?) -> Void

  /// Takes over `pointer`; nil becomes an error that says what OpenSSL says.
  init(
    _ pointer: OpaquePointer?, _ free: @escaping @Sendable (OpaquePointer?) -> Void, _ subject: String = "OpenSSL"
  ) throws(TransportError) {
    guard let pointer else { throw TransportError(subject, OpenSSLErrors.drain() ?? "out of memory") }
    self.pointer = pointer
    self.free = free
  }

  deinit { free(pointer) }
}

extension Owned {
  static func certificates() throws(TransportError) -> Owned {
    try Owned(nj_x509_stack_new(), { nj_x509_stack_free($0) })
  }

  static func memory() throws(TransportError) -> Owned {
    try Owned(BIO_new(BIO_s_mem()), { BIO_free($0) })
  }

  /// The bytes that were written to a memory BIO.
  var memoryBytes: [UInt8] {
    var start: UnsafeMutablePointer<CChar>?
    let count = nj_bio_bytes(pointer, &start)
    guard let start, count > 0 else { return [] }
    return Array(UnsafeRawBufferPointer(start: start, count: count))
  }
}

/// The calling thread's OpenSSL error queue. It must be empty before each TLS call and is drained after each failure:
/// a stale entry would be taken for the next call's error.
enum OpenSSLErrors {
  static func clear() { ERR_clear_error() }

  /// The oldest code of the queue, which is the cause, and its text; empties the queue.
  static func drainCode() -> (code: UInt, text: String)? {
    let code = ERR_get_error()
    ERR_clear_error()
    guard code != 0 else { return nil }
    guard let reason = ERR_reason_error_string(code) else { return (code, "OpenSSL error \(code)") }
    return (code, String(cString: reason))
  }

  static func drain() -> String? { drainCode()?.text }
}
