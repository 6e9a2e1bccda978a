"""Send the argument through 127.0.0.1 and print what arrives."""

import json
import socket
import sys

server = socket.create_server(("127.0.0.1", 0))
with socket.create_connection(server.getsockname()) as client:
    connection, _ = server.accept()
    client.sendall(sys.argv[1].encode())
    print(json.dumps(connection.recv(100).decode()))
