@_spi(Reflection) import Swift

/// Digests of values that needn't be hashable: two that have one digest are equal in every field, however deep. Equal
/// ones may have two, where they are laid out differently.
enum Reflection {
  static func digest(_ value: Any) -> Digest128 {
    var digester = Digester()
    digester.combine(value)
    return digester.digest
  }

  /// Of a value that can't be copied: that of all its fields, each of which can.
  static func digest<T: ~Copyable>(fieldsOf value: borrowing T, except: Set<String>) -> Digest128 {
    var digester = Digester()
    let isComplete = withUnsafePointer(to: value) { pointer in
      // The runtime knows the fields of every type, but the language has no name for a type that may not be copyable.
      _forEachField(of: unsafeBitCast(T.self, to: Any.Type.self)) { name, offset, type, _ in
        let name = String(cString: name)
        if !except.contains(name) {
          digester.combine(name)
          digester.combine(load(type, UnsafeRawPointer(pointer) + offset))
        }
        return true
      }
    }
    precondition(isComplete, "fields that the runtime doesn't know")
    return digester.digest
  }

  private static func load<T>(_ type: T.Type, _ place: UnsafeRawPointer) -> Any {
    place.assumingMemoryBound(to: T.self).pointee
  }

  private struct Digester {
    private var high = Hasher()
    private var low = Hasher()
    var digest: Digest128 { Digest128(high: high.finalize(), low: low.finalize()) }

    init() {
      high.combine(1)
      low.combine(2)
    }

    mutating func combine(_ value: some Hashable) {
      high.combine(value)
      low.combine(value)
    }

    mutating func combine(_ value: Any) {
      if let value = value as? any Hashable { return combine(value) }
      let mirror = Mirror(reflecting: value)
      combine(mirror.children.count)
      switch mirror.displayStyle {
      case .dictionary, .set:
        let elements = mirror.children.map { Reflection.digest($0.value) }
        combine(elements.sorted { ($0.high, $0.low) < ($1.high, $1.low) })
      case .enum where mirror.children.isEmpty: combine("\(value)")
      case nil: preconditionFailure("nothing can be told of \(type(of: value))")
      default:
        for child in mirror.children {
          combine(child.label ?? "")
          combine(child.value)
        }
      }
    }
  }
}
