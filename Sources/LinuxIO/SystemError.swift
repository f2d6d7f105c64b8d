import CLinux
import Glibc

/// A system call that failed: which one, and with which `errno(3)`.
package struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
  package var call: String
  package var code: Int32
  package init(_ call: String, code: Int32) {
    self.call = call
    self.code = code
  }
  package var description: String { "\(call): \(String(cString: strerror(code)))" }
}

/// Calls until it isn't interrupted; throws what it sets `errno` to if the result is negative.
func retrying<R: SignedInteger>(_ call: String, _ body: () -> R) throws(SystemError) -> R {
  while true {
    let result = body()
    if result >= 0 { return result }
    let code = errno
    if code != EINTR { throw SystemError(call, code: code) }
  }
}

/// For calls of CLinux, which return `-errno`.
func checked<R: SignedInteger>(_ call: String, _ result: R) throws(SystemError) -> R {
  guard result >= 0 else { throw SystemError(call, code: -Int32(result)) }
  return result
}
