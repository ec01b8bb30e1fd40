// The types declare everything the module has. Type-checking `types.ts` shows whether they are right.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import * as cloudmatch from "../cloudmatch.js";

const TYPES = readFileSync(new URL("../cloudmatch.d.ts", import.meta.url), "utf8");

test("The types declare exactly what the module exports", () => {
  const declared = [...TYPES.matchAll(/^export (?:class|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), Object.keys(cloudmatch).sort());
});

for (const name of ["Device", "Conversation"]) {
  test(`The types declare every member of ${name}`, () => {
    const [, body] = TYPES.match(new RegExp(`^export class ${name} .*?\\{\n(.*?)^\\}`, "ms"));
    for (const member of Object.getOwnPropertyNames(cloudmatch[name].prototype)) {
      assert.match(body, new RegExp(`^  (?:readonly )?${member}\\b`, "m"), `${member} of ${name}`);
    }
  });
}
