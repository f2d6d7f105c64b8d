/// Arithmetic on numbers that others wrote: hosts, peers, stores, files, clocks. A result that doesn't fit stays at the
/// greatest or least value: the operators would end the process, and the wrapping ones show a small number for a great
/// one.
extension FixedWidthInteger {
  package func saturatingAdding(_ other: Self) -> Self {
    let (sum, isOverflow) = addingReportingOverflow(other)
    return isOverflow ? (other < 0 ? .min : .max) : sum
  }

  package func saturatingSubtracting(_ other: Self) -> Self {
    let (difference, isOverflow) = subtractingReportingOverflow(other)
    // An unsigned difference overflows below only.
    return isOverflow ? (Self.isSigned && other < 0 ? .max : .min) : difference
  }

  package func saturatingMultiplied(by other: Self) -> Self {
    let (product, isOverflow) = multipliedReportingOverflow(by: other)
    return isOverflow ? ((self < 0) == (other < 0) ? .max : .min) : product
  }
}

extension Sequence {
  /// The sum of one number of each element.
  package func saturatingSum<Number: FixedWidthInteger>(_ number: (Element) -> Number) -> Number {
    reduce(0) { $0.saturatingAdding(number($1)) }
  }
}
