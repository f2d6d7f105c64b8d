import CLinux

/// The process's memory.
package enum Heap {
  /// What a start, or a scan of very many files, needed for a moment stays with the allocator, in each thread's arena,
  /// until it is asked for it. Not asked for little: it has to look at all that is free.
  package static func trim() { linux_trim_heap(8 << 20) }
}
