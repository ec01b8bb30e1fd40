// The types declare what the module has. Whether they are right is for tsc to say, on `types.ts`.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import * as cloudmatch from "../cloudmatch.js";

const TYPES = readFileSync(new URL("../cloudmatch.d.ts", import.meta.url), "utf8");

test("The types declare all that the module exports, and nothing else", () => {
  const declared = [...TYPES.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(cloudmatch).sort());
});

for (const name of ["Device", "Conversation"]) {
  test(`The types declare all that a ${name} has`, () => {
    const [, body] = TYPES.match(new RegExp(`^export class ${name} .*?\\{\n(.*?)^\\}`, "ms"));
    for (const member of Object.getOwnPropertyNames(cloudmatch[name].prototype)) {
      assert.match(body, new RegExp(`^  (?:readonly )?${member}\\b`, "m"), `${member} of ${name}`);
    }
  });
}
