// Calls each function that the module exports, and prints its result as a test.
import { readFile } from "node:fs/promises";

const { instance } = await WebAssembly.instantiate(await readFile(process.argv[2]), {});
const tests = Object.entries(instance.exports).filter(([, test]) => typeof test === "function");
let failed = 0;
for (const [name, test] of tests) {
  let result;
  try {
    const line = test();
    result = line === 0 ? "ok" : `FAILED at tests/wasm/src/lib.rs:${line}`;
  } catch (trap) {
    result = `FAILED: ${trap.stack}`;
  }
  console.log(`test wasm ${name} ... ${result}`);
  failed += result === "ok" ? 0 : 1;
}
if (tests.length === 0 || failed > 0) process.exit(1);
