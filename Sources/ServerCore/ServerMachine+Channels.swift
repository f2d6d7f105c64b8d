import JournalModel
import JournalStore
import WireProtocol

// The channels on which it comes: for all that follows they are connections of its host.

extension ServerMachine where H.Value == Digest {
  enum Channel {
    case open(ConnectionID, UInt32)
    case none
    /// When others aren't used any more.
    case later
  }
  mutating func channel(for subject: ChangedSubject, on id: ConnectionID) -> Channel {
    let known: ConnectionID?
    switch subject {
    case .journal(let journal): known = links[id]?.intake.byJournal[journal]
    case .file(let key): known = links[id]?.intake.byHost[key.host]
    }
    if let known, let number = connections[known]?.channel?.number { return .open(known, number) }
    guard let (journal, key) = journal(for: subject, on: id) else { return .none }
    if links[id]?.intake.channels.count ?? 0 >= PeerLink.mostChannels {
      let idle = links[id]?.intake.channels.values.filter { links[id]?.intake.wantedOn[$0] == nil }
      let oldest = idle?.min { (connections[$0]?.heard ?? now, $0) < (connections[$1]?.heard ?? now, $1) }
      guard let oldest else { return .later }
      cut(oldest, .other, "others are needed")
    }
    guard let channel = openChannel(journal, key, on: id), let number = connections[channel]?.channel?.number else {
      return .none
    }
    // Apart from each other: of two channels that bring records of one sequence the older one ends, and with it what of
    // files is on its way.
    switch subject {
    case .journal: links[id]?.intake.byJournal[journal] = channel
    case .file: links[id]?.intake.byHost[journal.host] = channel
    }
    return .open(channel, number)
  }

  private func journal(for subject: ChangedSubject, on id: ConnectionID) -> (HostJournal, Digest)? {
    switch subject {
    case .journal(let journal): return links[id]?.intake[subject]?.publicKey.map { (journal, $0) }
    case .file(let key):
      // What promises its bytes comes first.
      guard let tally = tallyIndex[key.host], let journal = tallies[tally].journals.last,
        let first = sequences(of: journal).first
      else { return nil }
      return (journal, journals[first].held.publicKey)
    }
  }

  private mutating func openChannel(_ journal: HostJournal, _ key: Digest, on id: ConnectionID) -> ConnectionID? {
    // A key under which nothing came proves nothing.
    if sequences(of: journal).contains(where: { journals[$0].held.publicKey != key }) {
      endUnfoundedChannels(of: journal, "the journal is supplied under another key")
    }
    guard let peer = connections[id]?.peer, verifier.objection(toKey: key) == nil,
      sequences(of: journal).allSatisfy({ journals[$0].held.publicKey == key }),
      let number = links[id]?.nextChannel()
    else { return nil }
    lastChannel += 1
    let channel = ConnectionID.channel(lastChannel)
    connections[channel] = Connection(peer: peer, heard: now, channel: (id, number))
    links[id]?.intake.channels[number] = channel
    send(.openChannel(ChannelOpening(channel: number, journal: journal, publicKey: key)), to: id)
    let hello = Hello(oldest: 1, newest: 1, host: journal.host, journal: journal.journal, publicKey: key)
    open(channel, hello, journal, tally: tally(of: journal.host))
    return channel
  }

  /// The channel is gone: what was asked for on it is asked for again.
  mutating func channelEnded(_ channel: (link: ConnectionID, number: UInt32), _ id: ConnectionID) {
    guard let intake = links[channel.link]?.intake else { return }
    links[channel.link]?.intake.channels[channel.number] = nil
    for (journal, used) in intake.byJournal where used == id { links[channel.link]?.intake.byJournal[journal] = nil }
    for (host, used) in intake.byHost where used == id { links[channel.link]?.intake.byHost[host] = nil }
    for subject in intake.wanted(on: id) { failed(subject, on: channel.link) }
    links[channel.link]?.intake.wantedOn[id] = nil
    dueLinks.insert(channel.link)
  }

  /// Before which a feed isn't told again; while what was asked for is on its way.
  private static var leastAge: Interval { .seconds(60) }
  private static var leastAgeAsking: Interval { .seconds(600) }

  /// With the heartbeats: who doesn't supply what was asked for, channels that nobody needs, and feeds of which something
  /// was given up. Over a slow link a frame takes long: what comes on others meanwhile counts for a while.
  mutating func reviewChannels() {
    for id in links.keys.sorted() {
      guard let intake = links[id]?.intake, let heard = connections[id]?.heard else { continue }
      for channel in intake.channels.values.sorted() {
        guard let since = connections[channel]?.heard, now - since >= limits.silence else { continue }
        if intake.wantedOn[channel] == nil {
          cut(channel, .silence, "nothing is lacking")
        } else if now - heard >= limits.silence || now - since >= Interval(nanoseconds: 6 * limits.silence.nanoseconds)
        {
          cut(channel, .silence, "what was asked for didn't come")
        }
      }
      guard intake.floor != nil, intake.last == intake.end, let age = links[id].map({ now - $0.began }) else {
        continue
      }
      // What is lacking may wait for what was given up, as a file does for its journal's records.
      let isDue = age >= (intake.wanted == 0 ? Self.leastAge : Self.leastAgeAsking)
      if isDue { cut(id, .other, "announced again from what was given up") }
    }
  }
}
