// Run an exchange. The argument is its options as JSON; progress is written to standard output as lines of JSON.

import { connect } from "../cloudmatch.js";
import { exchange } from "./exchange.js";
import { WebSocket } from "./websocket.js";

const report = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const options = { ...JSON.parse(process.argv[2]), connection: { WebSocket } };
report({ done: await exchange(connect, options, (progress) => report({ progress })) });
