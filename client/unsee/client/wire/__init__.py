"""How a client talks to `text_to_video`: messages, connections, the conversation about a clip.

The conversation itself does no I/O; `driving` performs its steps with or without asyncio.
"""
