// SPDX-License-Identifier: GPL-3.0-or-later
// The Node libraries of `benchmarks/formats_speed.py`, told what to do as `_formats_worker.py` is.
// Run in the folder whose node_modules holds them.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const library = async (name, main) => import(pathToFileURL(join(process.cwd(), "node_modules", name, main)));
const version = (name) => JSON.parse(readFileSync(join(process.cwd(), "node_modules", name, "package.json"))).version;
const OUTPUTS = { PLY: "ply", "compressed PLY": "compressed-ply", "SPZ 3": "spz", "SPZ 4": "spz", SOG: "sog-bundle", glTF: "glb" };
const loaded = new Map();

const transform = {
    version: () => version("@playcanvas/splat-transform"),
    async read(path) {
        const st = await library("@playcanvas/splat-transform", "dist/index.mjs");
        const fileSystem = new st.MemoryReadFileSystem();
        fileSystem.set(path, readFileSync(path));
        const options = { iterations: 10, lodSelect: [], unbundled: false };
        const [table] = await st.readFile({ filename: path, inputFormat: st.getInputFormat(path), options, params: [], fileSystem });
        return table;
    },
    count: (table) => table.numRows,
    async write(table, path, format) {
        if (!OUTPUTS[format]) throw new Error(`has no write of ${format}`);
        const st = await library("@playcanvas/splat-transform", "dist/index.mjs");
        const fileSystem = new st.MemoryFileSystem();
        const options = { iterations: 10, lodSelect: [], unbundled: false, spzVersion: Number(format.slice(-1)) || 4 };
        await st.writeFile({ filename: path, outputFormat: OUTPUTS[format], dataTable: table, options }, fileSystem);
        for (const bytes of fileSystem.results.values()) writeFileSync(path, bytes);
    },
};

// the least seconds of a few calls, and the last one's result
async function timed(call) {
    let [least, spent, result] = [Infinity, 0, null];
    for (let turn = 0; turn < 3 && spent <= 3; turn++) {
        const start = performance.now();
        result = await call();
        const took = (performance.now() - start) / 1000;
        [least, spent] = [Math.min(least, took), spent + took];
    }
    return [least, result];
}

const LIBRARIES = { "splat-transform": transform };

async function answer(task) {
    const used = LIBRARIES[task.library];
    if (task.action === "version") return { version: used.version() };
    if (!used[task.action]) return { absent: `has no ${task.action}` };
    if (task.action === "read") {
        const [seconds, found] = await timed(() => used.read(task.path));
        return { seconds, count: used.count(found) };
    }
    if (!loaded.has(task.source)) loaded.set(task.source, await used.read(task.source));
    const [seconds] = await timed(() => used.write(loaded.get(task.source), task.path, task.format));
    return { seconds };
}

for await (const line of createInterface({ input: process.stdin })) {
    let found;
    try {
        found = await answer(JSON.parse(line));
    } catch (error) {
        found = { absent: String(error).slice(0, 200) };
    }
    process.stdout.write(`ANSWER ${JSON.stringify(found)}\n`);
}
process.exit(0);
