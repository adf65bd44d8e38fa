"""The commands of a person. They talk to nodes as any client does, through the client port."""
