package import JournalModel

// How journals and files stand in the keys of a store, and in what is hashed of them.

extension ByteWriter {
  /// A name in a key: its bytes and a NUL, so that no key is a prefix of another's and keys are ordered as names are.
  package mutating func write(name: String) {
    write(raw: name.utf8)
    write(UInt8(0))
  }

  package mutating func write(_ key: FileKey) {
    write(name: key.host.text)
    write(key.file)
  }

  package mutating func write(_ key: HostJournal) {
    write(name: key.host.text)
    write(key.journal)
  }

  package mutating func write(_ subject: ChangedSubject) {
    switch subject {
    case .journal(let key):
      write(UInt8(1))
      write(key)
    case .file(let key):
      write(UInt8(2))
      write(key)
    }
  }
}
