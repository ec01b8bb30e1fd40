// Run an exchange: its options are the argument, as JSON; what happens are lines of JSON on standard output.

import { connect } from "../cloudmatch.js";
import { exchange } from "./exchange.js";
import { WebSocket } from "./websocket.js";

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const options = { ...JSON.parse(process.argv[2]), connection: { WebSocket } };
say({ done: await exchange(connect, options, (progress) => say({ progress })) });
