/// The answer to one HTTP request.
struct StatusResponse {
  var status: (code: Int, reason: String)
  var type = "text/plain; charset=utf-8"
  var body: String
  var isHeadOnly = false
  var allows: String?

  /// `head`: request line and fields, without the empty line (RFC 9112, section 3).
  init(toRequest head: [UInt8], node: any NodeControl) {
    guard head.count <= StatusServer.maximumRequest else {
      self.init(431, "Request Header Fields Too Large", "the request is too long\n")
      return
    }
    let words = head.prefix { $0 != 0x0D && $0 != 0x0A }.split(separator: 0x20, omittingEmptySubsequences: false)
      .map { String(decoding: $0, as: UTF8.self) }
    guard words.count == 3, words[2] == "HTTP/1.1" || words[2] == "HTTP/1.0" else {
      self.init(400, "Bad Request", "this is no HTTP/1.1 request\n")
      return
    }
    guard words[0] == "GET" || words[0] == "HEAD" else {
      self.init(405, "Method Not Allowed", "only GET and HEAD\n")
      allows = "GET, HEAD"
      return
    }
    self.init(path: String(words[1].prefix { $0 != "?" }), node)
    isHeadOnly = words[0] == "HEAD"
  }

  private init(_ code: Int, _ reason: String, _ body: String) {
    status = (code, reason)
    self.body = body
  }

  private init(path: String, _ node: any NodeControl) {
    switch path {
    case "/":
      self.init(200, "OK", StatusPage.html(node.snapshot()))
      type = "text/html; charset=utf-8"
    case "/status.json":
      guard let line = try? JSON.line(node.snapshot()) else {
        self.init(500, "Internal Server Error", "the status can't be encoded\n")
        return
      }
      self.init(200, "OK", line + "\n")
      type = "application/json"
    case "/metrics":
      self.init(200, "OK", StatusMetrics.text(node.snapshot()))
      type = "text/plain; version=0.0.4; charset=utf-8"
    case "/healthz":
      let alarms = node.snapshot().alarms
      if alarms.isEmpty {
        self.init(200, "OK", "ok\n")
      } else {
        self.init(503, "Service Unavailable", alarms.map { shown($0, limit: 500) + "\n" }.joined())
      }
    default: self.init(404, "Not Found", "there are /, /status.json, /healthz and /metrics\n")
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
