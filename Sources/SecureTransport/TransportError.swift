/// Why something local can't be used or made: a file, a key, an address, a socket. Written for an operator.
package struct TransportError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The file, address or operation concerned.
  package var subject: String
  package var reason: String
  /// What would help, where that is known.
  package var hint: String?

  package init(_ subject: String, _ reason: String, hint: String? = nil) {
    self.subject = subject
    self.reason = reason
    self.hint = hint
  }

  package var description: String {
    "\(subject): \(reason)" + (hint.map { " (\($0))" } ?? "")
  }
}
