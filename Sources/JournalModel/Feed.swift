// The feed of a server's changes (M3): what it tells its peers that it holds.

/// What a change is about: a journal with all its sequences, or a file with all its strings.
package enum ChangedSubject: Hashable, Sendable {
  case journal(HostJournal)
  case file(FileKey)

  package var host: HostName {
    switch self {
    case .journal(let journal): journal.host
    case .file(let key): key.host
    }
  }
}

/// One row of the feed: of each subject there is one, moved to the end when it changes again.
package struct Change: Hashable, Sendable {
  /// From 1 on, never given twice by a store.
  package var number: UInt64
  package var subject: ChangedSubject
  /// Of a journal.
  package var publicKey: Digest?
  /// What is durably held of it now, by length, then root, each once: of a journal each sequence's length with its
  /// checkpoint's root, of a file the length of each string that holds something of its own, with its root.
  package var heads: [TreeHead]
  package init(number: UInt64, subject: ChangedSubject, publicKey: Digest? = nil, heads: [TreeHead]) {
    self.number = number
    self.subject = subject
    self.publicKey = publicKey
    self.heads = heads
  }
}

/// How far a server's feed had come: by it a host tells whether the store that acknowledged something is still the one
/// that it finds, or was put back to before that, or is another one.
package struct FeedPosition: Hashable, Sendable {
  package var life: UUIDBytes
  /// The greatest number that had been given by then.
  package var number: UInt64
  package init(life: UUIDBytes, number: UInt64) {
    self.life = life
    self.number = number
  }
}

/// How far a peer has a server's feed, as it was in that life.
package struct FeedCursor: Hashable, Sendable {
  package var life: UUIDBytes
  /// Everything up to here is held.
  package var held: UInt64
  /// The greatest number that had been given by then: what had moved on from a number up to `held` is announced behind it.
  package var seen: UInt64
  package init(life: UUIDBytes, held: UInt64, seen: UInt64) {
    self.life = life
    self.held = held
    self.seen = seen
  }
}

/// The lives in which a store gave numbers.
///
/// A number alone is no cursor: a store that is put back from a backup gives the same numbers again to other things, and
/// what it lost would be skipped for ever.
package struct Feed: Hashable, Sendable {
  package struct Epoch: Hashable, Sendable {
    package var life: UUIDBytes
    /// The first number that it may give.
    package var first: UInt64
    package init(life: UUIDBytes, first: UInt64) {
      self.life = life
      self.first = first
    }
  }
  package static var mostEpochs: Int { 256 }

  /// The oldest first; the oldest ones are forgotten.
  package var epochs: [Epoch]
  /// The greatest number that was given; 0: none.
  package var last: UInt64
  package init(epochs: [Epoch] = [], last: UInt64 = 0) {
    self.epochs = epochs
    self.last = last
  }

  /// Where it is now. Nil while it has no epoch.
  package var position: FeedPosition? { epochs.last.map { FeedPosition(life: $0.life, number: last) } }

  /// Whether all that had been given then is a part of this feed.
  package func contains(_ position: FeedPosition) -> Bool {
    guard let index = epochs.firstIndex(where: { $0.life == position.life }) else { return false }
    let next = index + 1 < epochs.count ? epochs[index + 1].first : nil
    return next.map { position.number < $0 } ?? (position.number <= last)
  }

  /// The same. That what is held is wouldn't do: of what had moved on behind that, a store that is put back has the earlier
  /// state, at the earlier number.
  package func contains(_ cursor: FeedCursor) -> Bool {
    cursor.held <= cursor.seen && contains(FeedPosition(life: cursor.life, number: cursor.seen))
  }

  /// A commit brought it there.
  package mutating func advance(to position: FeedPosition) {
    _ = begin(position.life)
    last = max(last, position.number)
  }

  /// False if the last epoch is that life's already.
  package mutating func begin(_ life: UUIDBytes) -> Bool {
    guard epochs.last?.life != life else { return false }
    epochs.append(Epoch(life: life, first: last.saturatingAdding(1)))
    epochs.removeFirst(max(0, epochs.count - Self.mostEpochs))
    return true
  }
}

extension ChangedSubject: CustomStringConvertible {
  package var description: String {
    switch self {
    case .journal(let key): "journal \(key.journal) of \(key.host)"
    case .file(let key): "file \(key.file) of \(key.host)"
    }
  }
}
