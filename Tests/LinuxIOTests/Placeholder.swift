// filled by the room's first test
