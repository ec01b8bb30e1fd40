/** A device as code: for a terminal, Python and JavaScript. Pure. */

import { address } from "./setup.js";

/** Return [name, code] of each. `edge` is the http or https address of an edge. */
export function snippets(setup, edge) {
  const of = setup.dialect === "classic" ? classic : v1;
  return of(setup, edge);
}

const socketAddress = (setup, edge) => address(setup, edge).replace(/^http/, "ws");
const shell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const literal = (text) => JSON.stringify(text); // also valid in Python

function v1(setup, edge) {
  const fields = ["id", "lat", "lon", "app", "radius", "tag"].filter((name) => setup[name]);
  const value = (
    name,
  ) => (["lat", "lon", "radius"].includes(name) ? String(Number(setup[name])) : literal(setup[name]));
  const python = fields.map((name) => `${name}=${value(name)}`).join(", ");
  const javascript = fields.map((name) => `${name}: ${value(name)}`).join(", ");
  return [
    [
      "websocat",
      `websocat --protocol cloudmatch.v1 ${shell(socketAddress(setup, edge))}
# then type: {"type":"message","text":"ciao"}
`,
    ],
    [
      "Python",
      `# in CloudMatch's folder: pip install ./edge/clients/python
import asyncio

import cloudmatch


async def main() -> None:
    async with cloudmatch.connect(${literal(edge)}, ${python}) as device:
        peer = await device.matched()
        print(f"matched with {peer.id}", flush=True)
        await device.send("ciao", receipt=True)
        async for payload in device:
            print(f"{peer.id}: {payload}", flush=True)


asyncio.run(main())
`,
    ],
    [
      "JavaScript",
      `import { connect } from ${
        literal(`${edge.replace(/\/*$/, "")}/cloudmatch.js`)
      }; // in Node: from "cloudmatch"

const device = connect(${literal(edge)}, { ${javascript} });
const peer = await device.matched();
await device.send("ciao", { receipt: true });
for await (const payload of device) console.log(\`\${peer.id}: \${payload}\`);
`,
    ],
  ];
}

function classic(setup, edge) {
  const url = socketAddress(setup, edge);
  return [
    [
      "websocat",
      `websocat ${shell(url)}
`,
    ],
    [
      "Python",
      `# pip install websockets
import asyncio

from websockets.asyncio.client import connect


async def main() -> None:
    async with connect(${literal(url)}) as socket:
        async for text in socket:
            print(text, flush=True)
            if str(text).startswith("I matched with device"):
                await socket.send("ciao")


asyncio.run(main())
`,
    ],
    [
      "JavaScript",
      `const socket = new WebSocket(${literal(url)});
socket.onmessage = ({ data }) => {
  console.log(data);
  if (data.startsWith("I matched with device")) socket.send("ciao");
};
`,
    ],
  ];
}
