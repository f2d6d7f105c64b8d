import JournalModel
import JournalStore

/// What a listing could not show: a row, or several, and why.
package struct ListingDamage: Hashable, Sendable, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// One page of a listing.
private struct ListedPage<Row> {
  var rows: [Row] = []
  var damage: [StoreError] = []
  /// What the table says it has.
  var counted: UInt64 = 0
}

extension Environment {
  private static let rowsOfPage = 4_096
  private static let bytesOfPage = 1 << 20
  /// Lines about damage; what goes beyond is counted.
  private static let mostDamage = 100

  /// Brings the rows from `first` on whose keys begin with `prefix` to `body`, in the order of keys, until it returns
  /// false. A row that can't be read is passed over and told of, and so are rows that the table counts and nobody found.
  ///
  /// Each page is read in a transaction of its own, which has ended when `body` sees a row: whoever prints slowly, or is
  /// stopped while printing, keeps no page of the store from being used again.
  func list<Row>(
    _ table: Table, prefix: [UInt8] = [], from first: [UInt8] = [],
    _ decode: (Transaction.Entry) throws(StoreError) -> Row, _ body: (Row) throws -> Bool
  ) throws -> [ListingDamage] {
    var damage: [ListingDamage] = []
    var passedOver: UInt64 = 0
    var found: UInt64 = 0
    var counted: UInt64?
    var place = Transaction.Place(prefix: prefix, bound: first)
    while !place.isAtEnd {
      let page = try page(of: table, &place, decode)
      counted = counted ?? page.counted
      found += UInt64(page.rows.count)
      passedOver += UInt64(page.damage.count)
      damage += page.damage.prefix(Self.mostDamage - damage.count).map { ListingDamage("\($0)") }
      for row in page.rows where try !body(row) { return damage }
    }
    if passedOver > damage.count {
      damage.append(ListingDamage("damaged: \(table.name): \(passedOver - UInt64(damage.count)) rows more"))
    }
    if prefix.isEmpty, first.isEmpty, let counted, found + passedOver < counted {
      let missing = counted - found - passedOver
      damage.append(ListingDamage("damaged: \(table.name): \(missing) of \(counted) rows are nowhere"))
    }
    return damage
  }

  private func page<Row>(
    of table: Table, _ place: inout Transaction.Place, _ decode: (Transaction.Entry) throws(StoreError) -> Row
  ) throws(StoreError) -> ListedPage<Row> {
    let transaction = try begin(.reading)
    var page = ListedPage<Row>(counted: try transaction.count(of: table))
    var bytes = 0
    try transaction.walk(table, &place) { (step) throws(StoreError) in
      switch step {
      case .damaged(let error), .broken(let error): page.damage.append(error)
      case .row(let entry):
        do throws(StoreError) { page.rows.append(try decode(entry)) } catch { page.damage.append(error) }
        bytes += entry.byteCount
      }
      return page.rows.count < Self.rowsOfPage && bytes < Self.bytesOfPage
    }
    return page
  }
}
