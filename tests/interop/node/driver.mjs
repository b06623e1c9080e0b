// Speaks the tests' line language (tests/interop/foreign_client.py) with the client beside it.
// Usage: node driver.mjs ENDPOINT dealer|framed-dealer|req

import { createInterface } from "node:readline";

import { Client } from "./client.mjs";
import { locate } from "./routing.mjs";

const REPLY_TIMEOUT_MS = 15_000;
const LISTS = new Set(["keys", "values", "ctxs"]);
const BYTES = new Set(["key", "value", "ctx", "prefix", "cursor"]);
const TEXTS = new Set(["ks", "cl", "client"]);
const CONSTANTS = new Map([["null", null], ["undefined", undefined], ["true", true], ["false", false]]);

// A Buffer becomes a byte string, any other Uint8Array a typed array, which is tag 64 around one.
function bytes(text) {
    if (CONSTANTS.has(text)) return CONSTANTS.get(text);
    return text.startsWith("64:") ? new Uint8Array(Buffer.from(text.slice(3), "hex")) : Buffer.from(text, "hex");
}

// cbor-x writes a number above 32 bits as a float, a BigInt as an integer.
function uint(text) {
    const value = Number(text);
    return value < 2 ** 32 ? value : BigInt(text);
}

function field(name, text) {
    if (CONSTANTS.has(text)) return CONSTANTS.get(text);
    if (LISTS.has(name)) return text === "" ? [] : text.split(",").map(bytes);
    if (BYTES.has(name)) return bytes(text);
    return TEXTS.has(name) ? text : uint(text);
}

function parse(line) {
    const [op, ...words] = line.split(" ");
    const fields = {};
    for (const [name, text] of words.map((word) => word.split("="))) fields[name] = field(name, text);
    return [op, fields];
}

// A Buffer has a form of its own in JSON, so the value is looked up before that is made.
function withBytesAsHex(name, value) {
    const original = this[name];
    return original instanceof Uint8Array ? { hex: Buffer.from(original).toString("hex") } : value;
}

const client = new Client(...process.argv.slice(2));
let open = [];
let arrived = [];

for await (const line of createInterface({ input: process.stdin })) {
    if (line === "") {
        const alarm = setTimeout(() => {
            console.error(`${open.length - arrived.length} of ${open.length} requests have no reply`);
            process.exit(1);
        }, REPLY_TIMEOUT_MS);
        await Promise.all(open);
        clearTimeout(alarm);
        process.stdout.write(arrived.map((answer) => `${JSON.stringify(answer, withBytesAsHex)}\n`).join(""));
        [open, arrived] = [[], []];
        continue;
    }
    const [op, fields] = parse(line);
    const number = open.length;
    const reply = op === "locate" ? locate(fields.ks, fields.key, fields.partitions) : client.request(op, fields);
    open.push(Promise.resolve(reply).then((known) => arrived.push([number, known])));
}
client.close();
