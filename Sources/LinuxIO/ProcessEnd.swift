import CLinux
import Glibc
import JournalModel

/// The end of the process, also while file systems hang.
package enum ProcessEnd {
  /// Ends the process at once, whatever its threads do, if threads hang (`isHung`) or files of a remote file system are
  /// open. Nothing may be left to be written.
  ///
  /// The kernel closes what a process leaves open, and asks a file system about each file of it: of one that hangs the
  /// process would hang too, beyond any signal. So those files are left to a child that shares the descriptors and does
  /// nothing but end after this process has; all else (sockets, locks, stores) is closed here.
  package static func leave(_ status: Int32, isHung: Bool, mounts: MountTable) {
    let numbers = openDescriptors()
    let left = numbers.filter { mount(of: $0).flatMap { mounts.mount(numbered: $0) }?.isRemote ?? false }
    guard isHung || !left.isEmpty else { return }
    if !left.isEmpty, linux_share_descriptors() < 0 { _exit(status) }
    for number in numbers where !left.contains(number) { close(number) }
    _exit(status)
  }

  private static func openDescriptors() -> [Int32] {
    guard let folder = opendir("/proc/self/fd") else { return [] }
    defer { closedir(folder) }
    var numbers: [Int32] = []
    while let entry = readdir(folder) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if let number = Int32(name), number != dirfd(folder) { numbers.append(number) }
    }
    return numbers
  }

  /// The kernel's number of the mount that the descriptor's file is on.
  private static func mount(of descriptor: Int32) -> Int? {
    guard let file = try? Descriptor.open(BytePath("/proc/self/fdinfo/\(descriptor)"), O_RDONLY),
      let bytes = try? file.bytes(at: 0, count: 4_096)
    else { return nil }
    let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    guard let line = lines.first(where: { $0.hasPrefix("mnt_id:") }) else { return nil }
    return Int(line.dropFirst("mnt_id:".count).filter(\.isNumber))
  }
}
