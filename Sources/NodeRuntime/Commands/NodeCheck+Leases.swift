import Foundation

extension NodeCheck {
  private static let leaseCapability: UInt64 = 1 << 28

  /// Who may not take leases can't tell whether a writer still has a removed file open (F2).
  func checkLeases(_ show: Show) {
    guard let mask = Self.effectiveCapabilities, mask & Self.leaseCapability == 0 else { return }
    show(
      Finding(
        .warn, "host.follow",
        "this user lacks CAP_LEASE: removed files of other users are kept open for a day after their last bytes, since "
          + "nobody can tell whether a writer has them (AmbientCapabilities=CAP_LEASE in the unit)"))
  }

  private static var effectiveCapabilities: UInt64? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("CapEff:") })
    else { return nil }
    return UInt64(line.dropFirst("CapEff:".count).trimmingCharacters(in: .whitespaces), radix: 16)
  }
}
