@main struct NimbusJournal { static func main() {} }
