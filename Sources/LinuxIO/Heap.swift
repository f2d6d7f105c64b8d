import CLinux

/// The process's memory.
package enum Heap {
  /// Before there are other threads: as many arenas as there are processors, of which each thread takes any. What one
  /// needed for a moment is then there for the others [with an arena for nearly each of them, free pages among used ones
  /// came to 15 MB and more].
  package static func bound() { linux_bound_arenas() }

  /// What a start, or a scan of very many files, needed for a moment stays with the allocator, in each thread's arena,
  /// until it is asked for it. Not asked for little: it has to look at all that is free.
  package static func trim() { linux_trim_heap(8 << 20) }
}
