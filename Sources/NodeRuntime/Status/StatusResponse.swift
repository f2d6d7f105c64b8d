/// One HTTP request to the status page.
struct StatusRequest {
  enum Subject { case page, json, metrics, health }
  enum Asked {
    case subject(Subject)
    /// It asks for nothing that there is.
    case refused(StatusResponse)
  }
  private(set) var asked: Asked
  private var isHeadOnly = false

  /// `head`: request line and fields, without the empty line (RFC 9112, section 3).
  init(_ head: [UInt8]) {
    guard head.count <= StatusServer.maximumRequest else {
      asked = .refused(.init(431, "Request Header Fields Too Large", "the request is too long\n"))
      return
    }
    let words = head.prefix { $0 != 0x0D && $0 != 0x0A }.split(separator: 0x20, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
    guard words.count == 3, words[2] == "HTTP/1.1" || words[2] == "HTTP/1.0" else {
      asked = .refused(.init(400, "Bad Request", "this is no HTTP/1.1 request\n"))
      return
    }
    guard words[0] == "GET" || words[0] == "HEAD" else {
      asked = .refused(.init(405, "Method Not Allowed", "only GET and HEAD\n", allows: "GET, HEAD"))
      return
    }
    isHeadOnly = words[0] == "HEAD"
    switch words[1].prefix(while: { $0 != "?" }) {
    case "/": asked = .subject(.page)
    case "/status.json": asked = .subject(.json)
    case "/metrics": asked = .subject(.metrics)
    case "/healthz": asked = .subject(.health)
    default:
      var response = StatusResponse(404, "Not Found", "there are /, /status.json, /healthz and /metrics\n")
      response.isHeadOnly = isHeadOnly
      asked = .refused(response)
    }
  }

  func response(_ subject: Subject, _ status: NodeStatus) -> StatusResponse {
    var response = StatusResponse(about: subject, status)
    response.isHeadOnly = isHeadOnly
    return response
  }
}

/// The answer to one HTTP request.
struct StatusResponse {
  var status: (code: Int, reason: String)
  var type = "text/plain; charset=utf-8"
  var body: String
  var isHeadOnly = false
  var allows: String?

  init(_ code: Int, _ reason: String, _ body: String, allows: String? = nil) {
    status = (code, reason)
    self.body = body
    self.allows = allows
  }

  fileprivate init(about subject: StatusRequest.Subject, _ status: NodeStatus) {
    switch subject {
    case .page:
      self.init(200, "OK", StatusPage.html(status))
      type = "text/html; charset=utf-8"
    case .json:
      guard let line = try? JSON.line(status) else {
        self.init(500, "Internal Server Error", "the status can't be encoded\n")
        return
      }
      self.init(200, "OK", line + "\n")
      type = "application/json"
    case .metrics:
      self.init(200, "OK", StatusMetrics.text(status))
      type = "text/plain; version=0.0.4; charset=utf-8"
    case .health where status.alarms.isEmpty: self.init(200, "OK", "ok\n")
    case .health:
      self.init(503, "Service Unavailable", status.alarms.map { shown($0, limit: 500) + "\n" }.joined())
    }
  }

  var bytes: [UInt8] {
    let content = Array(body.utf8)
    var lines = [
      "HTTP/1.1 \(status.code) \(status.reason)", "Content-Type: \(type)", "Content-Length: \(content.count)",
      "Cache-Control: no-store", "Connection: close", "X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer",
      "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    ]
    if let allows { lines.append("Allow: \(allows)") }
    return Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8) + (isHeadOnly ? [] : content)
  }
}
