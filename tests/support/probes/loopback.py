"""Send a word through 127.0.0.1 and print what arrives."""

import json
import socket

server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname()) as client:
    connection, _ = server.accept()
    client.sendall(b"hello")
    print(json.dumps(connection.recv(16).decode()))
