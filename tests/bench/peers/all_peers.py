"""All peers, CloudMatch first."""

from bench.peers import Peer, centrifugo, cloudmatch, mosquitto, nats_websocket, socketio, starlette_redis

PEERS: tuple[Peer, ...] = (
    *cloudmatch.PEERS,
    *socketio.PEERS,
    *centrifugo.PEERS,
    *mosquitto.PEERS,
    *starlette_redis.PEERS,
    *nats_websocket.PEERS,
)
