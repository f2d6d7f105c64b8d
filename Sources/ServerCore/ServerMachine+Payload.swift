import JournalModel
import JournalStore
import MerkleLog
import WireProtocol

// Payload: admission of frames to a string's queue, and refusals that concern one file (W4).

extension ServerMachine where H.Value == Digest {
  mutating func receive(_ header: PayloadHeader, _ payload: PayloadID, on id: ConnectionID) {
    if links[id] != nil { return takeFromPeer(header, payload, on: id) }
    guard let session = connections[id]?.session?.facts else {
      out.append(.drop(payload))
      violated(id, "payload before hello")
      return
    }
    heard(id)
    let (_, overflow) = header.offset.addingReportingOverflow(UInt64(max(0, header.length)))
    guard header.length > 0, header.length <= limits.payloadFrameSize, !overflow,
      connections[id]?.session?.credit.consume(UInt64(header.length)) == true
    else {
      out.append(.drop(payload))
      return violated(id, "a payload frame beyond its bounds or its credit")
    }
    if !id.isChannel { goOnAsTold(id) }
    guard connections[id] != nil else { return out.append(.drop(payload)) }
    hold(UInt64(header.length), tally: session.tally)
    connections[id]?.session?.supplied = now
    let frame = StringIntake.Waiting(connection: id, header: header, payload: payload)
    arrive(.payload(frame), about: [FileKey(host: session.host, file: header.file)], on: id)
  }

  mutating func take(_ frame: StringIntake.Waiting) {
    let (id, header) = (frame.connection, frame.header)
    guard let session = connections[id]?.session?.facts else { return }
    defer { willSend(id) }
    holdFrame(id)
    if connections[id]?.session?.refused.contains(header.file) != false {
      drop(frame, tally: session.tally)
      // While nothing can be stored it is this server that drops, again and again, what hosts rightly offer.
      if blocked == nil { charge(1, to: id) }
      return
    }
    guard let first = stringIndex[FileKey(host: session.host, file: header.file)] else {
      drop(frame, tally: session.tally)
      return refuseUnknown(header.file, session, on: id)
    }
    if !hasRoom(id) {
      refuse(frame, first, .busy, "too much payload is on its way")
      return advance(first)
    }
    switch connections[id]?.session?.courses[header.file] {
    case nil: deliver(frame, to: first)
    case .string(let number):
      if let index = index(of: StringKey(key: strings[first].row.key.key, string: number)) {
        deliver(frame, to: index)
      } else {
        refuse(frame, first, .busy, "nothing that was sent of this string before is left")
      }
    case .beside: probe(frame, first)
    }
  }

  /// Payload of a string that is known.
  mutating func deliver(_ frame: StringIntake.Waiting, to index: Int) {
    let id = frame.connection
    yieldToHost(index, id)
    if strings[index].comparing == nil, strings[index].waiting.isEmpty {
      take(frame, to: index)
    } else if strings[index].owner != id {
      refuse(frame, index, .busy, "another connection is delivering this file")
    } else if strings[index].waiting.count < Self.framesWaiting {
      strings[index].waiting.append(frame)
    } else {
      connections[id]?.session?.isReported = true
      refuse(frame, index, .busy, "too many frames wait for a comparison")
    }
    advance(index)
  }

  /// Frames of one file that may wait for a comparison.
  private static var framesWaiting: Int { 256 }
  /// An honest host sends of no unknown files: each costs this of the allowance, and is remembered until its connection
  /// ends, hence only so many.
  private static var unknownFileCost: Int { 64 }
  private static var unknownFiles: Int { 1_024 }

  /// Decides on a frame. False when it must wait (it is then in `waiting`).
  @discardableResult
  private mutating func take(_ frame: StringIntake.Waiting, to index: Int) -> Bool {
    let offset = frame.header.offset
    let end = offset + UInt64(frame.header.length)
    let committed = strings[index].committed
    let received = strings[index].received
    if let (code, text) = objection(to: frame, index, end: end) {
      refuse(frame, index, code, text)
    } else if offset == received {
      own(index, by: frame.connection)
      strings[index].received = end
      unholdFrame(frame.connection)
      out.append(.admit(frame.payload, strings[index].row.key, offset: offset))
    } else if offset < strings[index].row.start {
      refuse(frame, index, .protocolViolation, "payload at \(offset), which is another string's")
    } else if offset > received, strings[first(index)].row.gap.map({ $0.lower < end }) ?? false {
      // What came before it was given up when the gap was recorded; this was on its way by then (J4).
      refuse(frame, index, .busy, "earlier payload was given up with a gap")
    } else if offset > received {
      refuse(
        frame, index, outOfOrder(id: frame.connection), "payload at \(offset), but \(received) bytes were received")
    } else if received > committed {
      refuse(frame, index, .busy, "earlier bytes of this range are on their way")
    } else if let failure = strings[index].failure {
      refuse(frame, index, failure.code, failure.text)
    } else {
      own(index, by: frame.connection)
      prove(index)
      guard strings[index].written == committed, strings[index].hasPlainFile else {
        strings[index].waiting.insert(frame, at: 0)
        return false
      }
      // W3: bytes that are held already are compared, and never written again.
      strings[index].comparing = frame
      comparisons[frame.payload] = index
      let count = Int(min(end, committed) - offset)
      let row = strings[index].row
      out.append(.compare(frame.payload, row.key, row.segment, offset: offset, count: count))
    }
    return true
  }

  private func objection(
    to frame: StringIntake.Waiting, _ index: Int, end: UInt64
  ) -> (RefusalCode, String)? {
    if let owner = strings[index].owner, owner != frame.connection {
      return (.busy, "another connection is delivering this file")
    }
    if strings[index].tail != .kept { return (.busy, "earlier payload is being discarded") }
    if end <= strings[index].committed { return nil }
    guard end <= strings[index].row.recorded else {
      return (.unknownFile, "no recorded length reaches \(end)")
    }
    if let blocked { return (.diskFull, blocked) }
    if let failure = strings[index].failure { return (failure.code, failure.text) }
    return nil
  }

  /// What a host delivers itself isn't taken from a peer beside it: it shall not wait.
  private mutating func yieldToHost(_ index: Int, _ id: ConnectionID) {
    if !id.isChannel { takeFromOtherChannel(index, id) }
  }

  /// What is on its way there counts for nothing from now on.
  mutating func takeFromOtherChannel(_ index: Int, _ id: ConnectionID) {
    guard let owner = strings[index].owner, owner.isChannel, owner != id else { return }
    let key = strings[index].row.key.key
    connections[owner]?.session?.refused.insert(key.file)
    abandon(index, of: owner)
    if isWanted(key, on: owner) { withdraw(key, from: owner) }
  }

  private mutating func own(_ index: Int, by id: ConnectionID) {
    guard strings[index].owner != id else { return }
    strings[index].owner = id
    strings[index].isSetAside = false
    connections[id]?.session?.owned.insert(index)
  }

  /// Some connection of its host was refused it, and must ask before more of it comes.
  func isRefused(_ file: FileUUID, tally: Int) -> Bool {
    tallies[tally].sessions.contains { connections[$0]?.session?.refused.contains(file) == true }
  }

  mutating func compared(_ payload: PayloadID, _ isEqual: Bool?) {
    guard let index = comparisons.removeValue(forKey: payload), let frame = strings[index].comparing else { return }
    strings[index].comparing = nil
    let committed = strings[index].committed
    let end = frame.header.offset + UInt64(frame.header.length)
    switch isEqual {
    case true where strings[index].isComparisonVoid || end <= committed:
      // A repeat is no event: the host learns how far it is.
      drop(frame, tally: strings[index].tally)
      acknowledge([durablePrefix(index)], to: frame.connection)
      charge(1, to: frame.connection)
    case true:
      let dropping = committed - frame.header.offset
      strings[index].received = end
      unholdFrame(frame.connection)
      unhold(dropping, tally: strings[index].tally)
      release(dropping, to: frame.connection)
      out.append(
        .admitTail(frame.payload, strings[index].row.key, offset: frame.header.offset, dropping: Int(dropping)))
    case false: refuse(frame, index, .conflict, "other bytes are held from \(frame.header.offset) on")
    case nil: refuse(frame, index, .unstorable, "what is held of it can't be read back: is its plain file still there?")
    }
    strings[index].isComparisonVoid = false
    advance(index)
  }

  /// Frames that waited for a comparison or a fold.
  mutating func takeWaiting(_ index: Int) {
    while strings[index].comparing == nil, !strings[index].waiting.isEmpty {
      let frame = strings[index].waiting.removeFirst()
      let isRefused = connections[frame.connection]?.session?.refused.contains(frame.header.file) ?? true
      if isRefused { drop(frame, tally: strings[index].tally) } else if !take(frame, to: index) { return }
    }
  }

  mutating func drop(_ frame: StringIntake.Waiting, tally: Int) {
    out.append(.drop(frame.payload))
    unholdFrame(frame.connection)
    unhold(UInt64(frame.header.length), tally: tally)
    release(UInt64(frame.header.length), to: frame.connection)
  }

  // MARK: Refusals

  /// Drops the frame and all that comes of this file on its connection, until the host asks for it anew.
  mutating func refuse(
    _ frame: StringIntake.Waiting, _ index: Int, _ code: RefusalCode, _ text: String
  ) {
    drop(frame, tally: strings[index].tally)
    sendRefusal(index, code, text, to: frame.connection)
  }

  mutating func sendRefusal(_ index: Int, _ code: RefusalCode, _ text: String, to id: ConnectionID) {
    let file = strings[index].row.key.key.file
    report(index, code, text)
    guard connections[id]?.session != nil else { return }
    connections[id]?.session?.refused.insert(file)
    // What another one is delivering is owed all the same: that one must be able to end what it began.
    if strings[index].owner == nil || strings[index].owner == id { strings[index].isSetAside = true }
    noteOwed(index)
    refusals += 1
    let refusal = Refusal(file: file, code: code, length: strings[index].committed, text: text)
    send(.refusal(refusal), to: id)
  }

  /// Once for each file and reason, until it gets on.
  mutating func report(_ index: Int, _ code: RefusalCode, _ text: String) {
    guard strings[index].reported != code else { return }
    strings[index].reported = code
    out.append(.report(.refused(strings[index].row.key.key, strings[index].row.path, code, text)))
  }

  mutating func refuseUnknown(_ file: FileUUID, _ session: SessionFacts, on id: ConnectionID) {
    guard charge(Self.unknownFileCost, to: id) else { return }
    guard connections[id]?.session?.refused.count ?? 0 < Self.unknownFiles else {
      return violated(id, "payload of too many unknown files")
    }
    connections[id]?.session?.refused.insert(file)
    connections[id]?.session?.isReported = true
    refusals += 1
    let text = "the file's birth isn't recorded"
    out.append(.report(.refused(FileKey(host: session.host, file: file), nil, .unknownFile, text)))
    send(.refusal(Refusal(file: file, code: .unknownFile, length: 0, text: text)), to: id)
  }

  /// What is durable of a string, as it is stated to its host.
  func durablePrefix(_ index: Int) -> DurablePrefix {
    let row = strings[index].row
    return DurablePrefix(file: row.key.key.file, length: row.committed, root: row.root)
  }

  /// What a host puts up with that it didn't ask for, and half of it: the rest is for other frames.
  var courtesyLimits: Limits {
    var limits = limits
    limits.allowance /= 2
    limits.allowancePerSecond /= 2
    return limits
  }

  /// Strings became longer: each session of their hosts is told, whoever supplied the bytes, in one frame. A session that
  /// supplied none of them is told so often and no more as its host bears with unasked frames; what it misses, it hears
  /// when it asks, or when it sends what is held. Of a file with several strings a session is told of its own only.
  mutating func acknowledge(_ strings: [Int]) {
    let byHost = Dictionary(grouping: strings) { self.strings[$0].tally }
    for (tally, all) in byHost.sorted(by: { $0.key < $1.key }) {
      for id in tallies[tally].sessions {
        let indices = all.filter { concerns($0, id) }
        let isSupplier = indices.contains { self.strings[$0].owner == id }
        // A peer hears of the rest by the feed.
        if id.isChannel, !isSupplier { continue }
        let held = indices.map { durablePrefix($0) }
        if held.isEmpty { continue }
        let (now, cost) = (self.now, 1 + held.count / 64)
        if isSupplier || connections[id]?.session?.courtesy.take(cost, at: now) == true { acknowledge(held, to: id) }
      }
    }
  }

  private func concerns(_ index: Int, _ id: ConnectionID) -> Bool {
    if strings[index].owner == id { return true }
    let key = strings[index].row.key
    // It doesn't know which bytes it has.
    let isRefused = connections[id]?.session?.refused.contains(key.key.file) != false
    if isRefused, !strings[first(index)].branches.isEmpty { return false }
    switch connections[id]?.session?.courses[key.key.file] {
    case nil: return key.string == 0 && strings[index].branches.isEmpty
    case .string(let number): return number == key.string
    case .beside: return false
    }
  }

  mutating func acknowledge(_ held: [DurablePrefix], to id: ConnectionID) {
    guard connections[id]?.session != nil else { return }
    var rest = held[...]
    while !rest.isEmpty {
      send(.payloadDurable(Array(rest.prefix(FrameBounds.acknowledgements))), to: id)
      rest = rest.dropFirst(FrameBounds.acknowledgements)
    }
  }

  // MARK: Resume (W2)

  /// A host asks one at a time.
  static var queriesInFlight: Int { 4 }

  mutating func query(_ files: [FileUUID], on id: ConnectionID) {
    guard let session = connections[id]?.session?.facts else { return }
    let pages = connections[id]?.session?.queries.count ?? 0
    guard files.count <= limits.resumePage, pages < Self.queriesInFlight else {
      return violated(id, "too many files or pages in resume queries")
    }
    var query = ResumeQuery(files: files)
    for file in files {
      beginAnew(file, on: id)
      guard let first = stringIndex[FileKey(host: session.host, file: file)] else { continue }
      for index in all(first) where mustSettle(index, before: id) {
        if query.waiting.insert(index).inserted { strings[index].resumers.append(id) }
      }
    }
    connections[id]?.session?.queries.append(query)
    // Files that were set aside are owed again.
    willSend(id)
    answerQueries(id)
  }

  /// A peer may be asked for a file again before what it sent of it earlier has come.
  func outOfOrder(id: ConnectionID) -> RefusalCode { id.isChannel ? .busy : .protocolViolation }

  /// The host begins anew with a file: what it sent and no promise reaches is void.
  mutating func beginAnew(_ file: FileUUID, on id: ConnectionID) {
    connections[id]?.session?.refused.remove(file)
    endCourse(of: file, on: id)
    guard let host = connections[id]?.session?.facts.host,
      let first = stringIndex[FileKey(host: host, file: file)]
    else { return }
    for index in all(first) {
      strings[index].isSetAside = false
      noteOwed(index)
      if strings[index].owner == id { abandon(index, of: id) }
    }
  }

  /// Whether verified bytes of this or of a former connection are about to be committed. While they can't be, and while
  /// another living connection delivers the file, the answer doesn't wait.
  private func mustSettle(_ index: Int, before id: ConnectionID) -> Bool {
    if strings[index].isDrained || blocked != nil || strings[index].failure != nil || phase != .serving { return false }
    guard let owner = strings[index].owner else { return true }
    return owner == id || connections[owner] == nil
  }

  mutating func answerQueries(_ id: ConnectionID) {
    while let host = connections[id]?.session?.facts.host, let query = connections[id]?.session?.queries.first,
      query.waiting.isEmpty, !query.isLooking
    {
      let unknown = query.files.filter {
        stringIndex[FileKey(host: host, file: $0)] == nil && query.looked[$0] == nil
      }
      guard unknown.isEmpty else {
        connections[id]?.session?.queries[0].isLooking = true
        return read(.rows(unknown.map { FileKey(host: host, file: $0) }), for: .resume(id))
      }
      connections[id]?.session?.queries.removeFirst()
      let answer = query.files.map { file in
        let first = stringIndex[FileKey(host: host, file: file)]
        let held = first.map { all($0).compactMap { TreeHead(strings[$0].row) } } ?? query.looked[file] ?? []
        return HeldFile(file: file, strings: Array(held.prefix(FrameBounds.stringsPerFile)))
      }
      send(.resumeAnswer(answer), to: id)
    }
  }

  /// What the store has of files that weren't in memory. It may be more by now, never less.
  mutating func looked(_ files: [LoadedFile], on id: ConnectionID) {
    guard connections[id]?.session?.queries.first?.isLooking == true else { return }
    connections[id]?.session?.queries[0].isLooking = false
    for file in files {
      let rows = [file.row].compactMap { $0 } + file.branches.map(\.row)
      connections[id]?.session?.queries[0].looked[file.key.file] = rows.compactMap { TreeHead($0) }
    }
    answerQueries(id)
  }

  /// Answers no longer wait for this string.
  mutating func releaseResumers(_ index: Int) {
    if strings[index].resumers.isEmpty { return }
    let resumers = strings[index].resumers
    strings[index].resumers = []
    for id in resumers {
      guard let queries = connections[id]?.session?.queries else { continue }
      for position in queries.indices { connections[id]?.session?.queries[position].waiting.remove(index) }
      answerQueries(id)
    }
  }
}

extension TreeHead {
  /// Nil while nothing is held of its own.
  fileprivate init?(_ row: StoredString) {
    guard row.isDistinct else { return nil }
    self.init(length: row.committed, root: row.root)
  }
}
