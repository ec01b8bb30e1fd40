"""A Starlette node: publishes what a device sends to the Redis channel of its peer."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import uvicorn
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

PORT, REDIS, PROTOCOL = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
redis = Redis(port=REDIS)
subscriptions = redis.pubsub()
devices: dict[bytes, WebSocket] = {}  # by channel
subscribed: dict[bytes, asyncio.Event] = {}


async def deliver() -> None:
    """Send what arrives from Redis to the devices connected here."""
    while True:
        with contextlib.suppress(RedisError):  # it reconnects automatically
            async for message in subscriptions.listen():
                channel = message["channel"]
                if message["type"] == "subscribe" and channel in subscribed:
                    subscribed[channel].set()
                elif message["type"] == "message" and channel in devices:
                    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it has just disconnected
                        await devices[channel].send_text(message["data"].decode())
        await asyncio.sleep(0.05)


async def device(socket: WebSocket) -> None:
    """Serve a device: /<app>.<a or b><pair>."""
    await socket.accept()
    app, _, name = socket.path_params["name"].rpartition(".")
    own, peer = f"{app}.{name}".encode(), f"{app}.{'b' if name[0] == 'a' else 'a'}{name[1:]}"
    devices[own] = socket
    event = subscribed[own] = asyncio.Event()
    await subscriptions.subscribe(own)
    await event.wait()
    await socket.send_text("ready")
    try:
        while True:
            text = await socket.receive_text()
            with contextlib.suppress(RedisError):  # after its own retries
                await redis.publish(peer, text)
    except WebSocketDisconnect:
        if devices.get(own) is socket:
            del devices[own], subscribed[own]
            await subscriptions.unsubscribe(own)


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Subscribe before the first device connects."""
    await subscriptions.subscribe("bench")
    delivering = asyncio.create_task(deliver())
    yield
    delivering.cancel()


uvicorn.run(
    Starlette(routes=[WebSocketRoute("/{name}", device)], lifespan=lifespan),
    host="127.0.0.1",
    port=PORT,
    loop="uvloop",
    ws=PROTOCOL,
    log_level="error",
)
