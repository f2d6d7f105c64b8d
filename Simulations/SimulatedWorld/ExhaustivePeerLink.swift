import JournalModel
import WireProtocol

/// A connection between two servers of the small world.
struct ExhaustivePeerLink: Hashable {
  enum Sent: Hashable {
    case sent(ExhaustiveHost.Sent)
    /// The other side closed it.
    case end
  }
  struct End: Hashable {
    let server: Int
    let id: ConnectionID
    var isOpen = true
    /// What is on its way to it.
    var coming: [Sent] = []
    /// What it heard announced and didn't say to hold.
    var announced: [ChangedSubject: Change] = [:]
  }
  /// Who connected comes first.
  var ends: [End]
}
