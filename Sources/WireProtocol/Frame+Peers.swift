package import JournalModel

// Between servers (M3): each says what it holds, and asks the other for what it lacks. What is asked for comes on channels,
// each of which is a conversation between a host and a server: the side that lacks something is its server.

/// The first frame of each side.
package struct PeerHello: Hashable, Sendable {
  /// Protocol versions that the sender speaks.
  package var oldest: UInt16
  package var newest: UInt16
  package var name: String
  /// Up to where the sender has the other side's feed; nil when it has nothing of it.
  package var cursor: FeedCursor?
  package var features: [String]
  package init(oldest: UInt16, newest: UInt16, name: String, cursor: FeedCursor?, features: [String] = []) {
    self.oldest = oldest
    self.newest = newest
    self.name = name
    self.cursor = cursor
    self.features = features
  }
}

/// Where announcements begin.
package struct FeedStart: Hashable, Sendable {
  /// Behind this number.
  package var after: UInt64
  /// The other side's cursor isn't of this feed: what is held up to that number it finds by the trie.
  package var byTrie: Bool
  package init(after: UInt64, byTrie: Bool) {
    self.after = after
    self.byTrie = byTrie
  }
}

/// All that stands under a part of the trie that isn't divided, and of journals what else is needed to take it.
package struct TrieBucket: Hashable, Sendable {
  package var changes: [Change]
  /// No more comes in answer to the same question.
  package var isLast: Bool
  package init(changes: [Change], isLast: Bool) {
    self.changes = changes
    self.isLast = isLast
  }
}

/// What the sender durably holds, by the numbers of its feed; and the greatest of these at that moment, with the life in
/// which it was given.
package struct Announcement: Hashable, Sendable {
  package var life: UUIDBytes
  package var last: UInt64
  package var changes: [Change]
  package init(life: UUIDBytes, last: UInt64, changes: [Change]) {
    self.life = life
    self.last = last
    self.changes = changes
  }
}

/// How far the sender has the other side's feed.
package struct Noted: Hashable, Sendable {
  /// Up to here it was looked at, or waits in a place that is bounded otherwise: more may be announced.
  package var noted: UInt64
  /// Up to here all of it is durably held.
  package var held: UInt64
  package init(noted: UInt64, held: UInt64) {
    self.noted = noted
    self.held = held
  }
}

/// The sender lacks something of this host, and takes it as its server would.
package struct ChannelOpening: Hashable, Sendable {
  /// Never used before on this connection. Those of who connected are even, those of the other side odd.
  package var channel: UInt32
  package var journal: HostJournal
  package var publicKey: Digest
  package init(channel: UInt32, journal: HostJournal, publicKey: Digest) {
    self.channel = channel
    self.journal = journal
    self.publicKey = publicKey
  }
}

package struct ChannelEnd: Hashable, Sendable {
  package var channel: UInt32
  package var code: RefusalCode
  package var text: String
  package init(channel: UInt32, code: RefusalCode, text: String) {
    self.channel = channel
    self.code = code
    self.text = text
  }
}

/// Asks for the records of a channel's journal, as far as the sequence goes that has this head.
package struct WantedRecords: Hashable, Sendable {
  package var channel: UInt32
  package var head: TreeHead
  package init(channel: UInt32, head: TreeHead) {
    self.channel = channel
    self.head = head
  }
}

/// Asks for the bytes of the string that has this head, behind what of it is held.
package struct WantedBytes: Hashable, Sendable {
  package var channel: UInt32
  package var file: FileUUID
  package var head: TreeHead
  /// All strings that are held of the file.
  package var held: [TreeHead]
  package init(channel: UInt32, file: FileUUID, head: TreeHead, held: [TreeHead]) {
    self.channel = channel
    self.file = file
    self.head = head
    self.held = held
  }
}
