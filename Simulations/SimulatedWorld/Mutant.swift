/// A planted bug: one rule broken at the door between the core and the world, where breaking it is the same as breaking
/// it inside. A mutant that a swarm doesn't see is a hole in the oracles.
package enum Mutant: String, Hashable, Sendable, CaseIterable {
  // What a host's world says and does.
  /// Identity by inode number alone (D1).
  case identityByNumber
  /// Bytes before the known length are not compared (D4).
  case skipComparison
  /// A shorter file is taken for an unchanged one (D5).
  case ignoreTruncation
  /// 'EMFILE' and 'EACCES' read as 'there is nothing' (D10).
  case failureIsAbsence
  /// An entry that vanishes between listing and examination is left out, and with it the next one.
  case forgetEntries
  /// No descriptor is kept when the last name goes (F2).
  case dropNamelessTail
  /// 'No writer is left' without asking (F2).
  case assumeNoWriters
  /// A host's commit is answered and not made (J1).
  case forgetHostCommit
  /// The file table isn't written: lengths are forgotten at a restart.
  case forgetFileTable
  /// Leaves aren't written: D4 has nothing to compare with.
  case forgetLeaves
  /// The queue of hints overflowed, and no scan follows (F1).
  case ignoreOverflow
  /// A watch that the kernel refused is said to stand (F1).
  case believeRefusedWatch
  /// A directory that was listed once is taken to stand still (K6).
  case believeStillness
  /// A directory's times are believed however coarse they are (K6).
  case believeFreshTimes
  /// Watches and directories are compared by path: what a path leads to is nobody's concern (F1).
  case watchByPath
  /// After a restart the open leaf alone is compared: at a boundary of leaves nothing (D4).
  case openLeafOnly
  /// The file table forgets that an incarnation ended (D5, G7).
  case forgetEnds
  /// A file that comes back is born again, although the store has its row (K6).
  case bearAgain
  /// A file that comes back has no more than its birth's commit gave it (K1).
  case forgetLength
  /// Goes on where the host left off sending, not where the server says (W2).
  case resumeFromHostOffset
  /// Payload that can't be read is waited for, and that of all other files waits behind it (W1, F4).
  case waitForUnreadable
  /// The server's credit is not kept to (W1, P2).
  case ignoreCredit
  /// A refusal that concerns one file isn't heard (W4).
  case ignoreRefusal
  /// Reads of one file system wait for those of another (G3).
  case oneFileSystem
  /// What doesn't answer is waited for, however long (G3).
  case callNothingHung
  /// Offers what is said to be delivered twice: the second of two equal ranges is dropped on the way.
  case loseSentPayload

  // What a server's world says and does.
  /// 'Synced' without a sync of the plain file (G2).
  case acknowledgeBeforeSync
  /// A bulk write is said to be synced and isn't (P2).
  case writeWithoutSync
  /// A failed sync is tried again and believed (P4).
  case retryFailedSync
  /// Payload acknowledged as it arrives (W1, G2).
  case acknowledgeOnReceipt
  /// An acknowledgement names another file (W1).
  case acknowledgeOtherFile
  /// An acknowledgement states another string's root (W2).
  case acknowledgeOtherRoot
  /// Records acknowledged as they arrive (J1, G2).
  case acknowledgeRecordsOnReceipt
  /// A server's commit is answered and not made.
  case forgetServerCommit
  /// Every root matches (W3).
  case believePayload
  /// Nothing is folded or cut after a crash (P3).
  case skipRepair
  /// The log isn't replayed: the file ends at the synced length (P3).
  case forgetLog
  /// Signed lengths aren't stored: after a restart nobody knows to what payload may commit.
  case forgetPromises
  /// The name of a new plain file isn't synced (P1).
  case skipDirectorySync
  /// Received bytes that were to be forgotten stay (W3).
  case keepDiscarded
  /// Nothing follows from bytes that fail their root: they stay, and so does the credit that they took (W3).
  case keepUnmet
  /// Bytes that were written stay in memory (P2).
  case neverFree
  /// The log is trimmed before what it holds was written (P2).
  case trimEarly
  /// The row that says 'unfinished' comes a commit too late: the bytes of which it speaks are written by then (K2).
  case announceLate
  /// The row that says 'unfinished' goes while the next slice is written (K2).
  case finishEarly
  /// A file that leaves memory comes back as an older commit had it (K1).
  case olderRow
  /// A frame is taken though a file that it is about wasn't found, and is there (K1).
  case partialLoad
  /// What the store has beyond a window of promises is taken for nothing (K4).
  case forgetRest
  /// Of a length that is held no promise is kept: that of the other branch is dropped (K4, M1).
  case forgetOthers
  /// Other records of a journal are acknowledged and not kept.
  case forgetFork
  /// What the store holds is counted a second time at a start (K3).
  case countTwice

  /// What ended before a server was named is taken to be there (G4).
  case believeEnded
  /// That a server had all that ended is believed though it was delivered to no more for a while.
  case forgetFormer

  // Between servers.
  /// A server that was put back, or replaced, is taken for the one that acknowledged (P3).
  case believePutBack
  /// Where a server's feed is, is noted as it was when the connection began.
  case noteFirstPosition
  /// How far a peer's feed is held is stored as far as it was announced (M3).
  case cursorAhead
  /// The peer is told so too.
  case noteAhead
  /// What a commit under way will have changed is announced (G2, M3).
  case announceEarly
  /// A cursor of a history that the server has lost is taken for one of this one.
  case believeLostCursor
  /// What is longer is taken to begin with what is shorter.
  case coverByLength
  /// A change of several is passed over.
  case passOverChange
  /// Of each file and journal the longest string alone is announced (M1).
  case announceLongest
  /// What a peer asked for is said to be sent, and isn't.
  case loseSupply
  /// The trie is said to have followed the feed, and hasn't.
  case staleTrie
  /// A walk ends at the parts that differ.
  case passOverParts
  /// What a walk finds is passed over.
  case passOverBucket
  /// What is asked of one peer is asked of another as well.
  case askTwoPeers
  /// Who was slow, so that another peer was asked, goes on.
  case goOnRefused
  /// What is held of a file that is asked for isn't heard.
  case supplyFromBeginning

  // Whether one run is right doesn't tell, or hardly ever; the merge laws do.
  /// What is repeated and held already is appended to the plain file all the same (W3, G1):
  /// hosts repeat nothing since they are told what is held, couriers do.
  case appendRepeats
  /// A gap begins where the server's bytes end when its record comes (J4).
  case gapFromHeld
  /// The file that was made last gets the name under `latest`, not the youngest (P1).
  case linkLast

  package var isBetweenServers: Bool {
    [
      .cursorAhead, .noteAhead, .announceEarly, .believeLostCursor, .coverByLength, .passOverChange, .announceLongest,
      .loseSupply, .staleTrie, .passOverParts, .passOverBucket, .askTwoPeers, .goOnRefused, .supplyFromBeginning,
      .believePutBack, .noteFirstPosition,
    ].contains(self)
  }
  /// A gap: no seed is known that finds it. It is planted when it is named.
  package var isMissed: Bool { self == .believeLostCursor }
  package var breaksMergeAlone: Bool { [.appendRepeats, .gapFromHeld, .linkLast].contains(self) }
}
