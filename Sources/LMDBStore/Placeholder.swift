// filled by the room's first file
