import JournalModel

/// Limits small enough that every boundary is crossed within a few hundred bytes.
func smallLimits() -> Limits {
  var limits = Limits()
  limits.leafSize = 16
  limits.extentSize = 256
  limits.payloadFrameSize = 48
  limits.connectionCredit = 512
  limits.recordsPerFrame = 8
  limits.recordWindow = 64
  limits.resumePage = 3
  limits.logPayloadSize = 40
  limits.logCapacity = 160
  limits.syncSlice = 64
  limits.residentStrings = 1
  limits.promiseWindow = 2
  limits.payloadPatience = Interval(nanoseconds: 0)
  return limits
}

func text(_ count: Int, _ salt: Int) -> [UInt8] {
  (0..<count).map { UInt8(truncatingIfNeeded: ($0 &* 31) ^ ($0 >> 5) &+ salt &* 7) }
}

/// Small and large extents, an empty file, a file that ends at a leaf boundary, interleaved.
func firstStory(_ limits: Limits, host name: String = "web1") -> FakeHost {
  let host = FakeHost(name, limits: limits)
  host.bear(FakeHost.uuid(1), "/var/log/app.log")
  host.write(0, text(5, 1))
  host.write(0, text(30, 2))
  host.bear(FakeHost.uuid(2), "/var/log/big.log")
  host.write(1, text(150, 3))
  host.write(0, text(12, 4))
  host.bear(FakeHost.uuid(3), "/var/log/empty")
  host.write(1, text(10, 5))
  host.write(1, text(90, 6))
  host.write(0, text(1, 7))
  host.bear(FakeHost.uuid(4), "/var/log/leaf")
  host.write(3, text(32, 8))
  host.write(1, text(3, 9))
  host.close(3)
  return host
}

/// Many small appends to a few files: the log's road.
func smallAppends(_ limits: Limits, host name: String = "web2") -> FakeHost {
  let host = FakeHost(name, limits: limits)
  for file in 0..<3 { host.bear(FakeHost.uuid(UInt64(10 + file)), "/srv/\(file).log") }
  for round in 0..<12 {
    for file in 0..<3 { host.write(file, text(1 + (round * 5 + file) % 13, round)) }
  }
  return host
}
