# Takes an established TCP connection out of the kernel and puts it back, as somebody
# who has seen its numbers would continue it (TCP_REPAIR, tcp(7)). Nothing is sent when
# it is taken out. Prints the numbers that are needed for the next time, or `silence`.
#
#   continue.py open SOURCE PORT DESTINATION PORT
#   continue.py go-on SOURCE PORT DESTINATION PORT RECEIVED SENT
import socket
import struct
import sys

REPAIR, REPAIR_QUEUE, QUEUE_SEQUENCE = 19, 20, 21
QUEUES = (1, 2)

mode, source, source_port, destination, port = sys.argv[1:6]
connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
connection.settimeout(2)
connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if mode == "go-on":
    connection.setsockopt(socket.IPPROTO_TCP, REPAIR, 1)
connection.bind((source, int(source_port)))
if mode == "go-on":
    for queue, number in zip(QUEUES, sys.argv[6:8]):
        connection.setsockopt(socket.IPPROTO_TCP, REPAIR_QUEUE, queue)
        packed = struct.pack("I", int(number))
        connection.setsockopt(socket.IPPROTO_TCP, QUEUE_SEQUENCE, packed)
connection.connect((destination, int(port)))
if mode == "go-on":
    connection.setsockopt(socket.IPPROTO_TCP, REPAIR, 0)
connection.send(b"x")
try:
    answered = connection.recv(1) == b"x"
except OSError:
    answered = False
connection.setsockopt(socket.IPPROTO_TCP, REPAIR, 1)
numbers = []
for queue in QUEUES:
    connection.setsockopt(socket.IPPROTO_TCP, REPAIR_QUEUE, queue)
    packed = connection.getsockopt(socket.IPPROTO_TCP, QUEUE_SEQUENCE, 4)
    numbers.append(struct.unpack("I", packed)[0])
print(*numbers if answered else ["silence"])
