/// A machine takes one input at a time. What comes while one is taken, from the effects that follow from it, waits until
/// all of these are performed. Belongs to the loop's thread.
final class InputQueue<Input> {
  private var inputs: [Input] = []
  private var isTaking = false

  func take(_ input: Input, _ step: (Input) -> Void) {
    inputs.append(input)
    guard !isTaking else { return }
    isTaking = true
    defer { isTaking = false }
    var next = 0
    while next < inputs.count {
      step(inputs[next])
      next += 1
    }
    inputs.removeAll(keepingCapacity: true)
  }
}
