// OpenAI's own client for Node against a Millstream: node openai_node.mjs BASE_URL MODEL
import assert from "node:assert/strict";
import OpenAI, { toFile } from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const script = (says) => `script: ${JSON.stringify(says)}`;
const user = (content) => [{ role: "user", content }];

const whole = await client.chat.completions.create({ model, messages: user(script({ text: "Hello." })) });
assert.equal(whole.choices[0].message.content, "Hello.");
assert.ok(whole._request_id);

let streamed = "";
const stream = await client.chat.completions.create({ model, messages: user(script({ text: "one two" })), stream: true });
for await (const chunk of stream) streamed += chunk.choices[0]?.delta?.content ?? "";
assert.equal(streamed, "one two");

const looked = [];
const tool = {
  type: "function",
  function: {
    name: "weather",
    parse: JSON.parse,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    function: ({ city }) => { looked.push(city); return "rain"; },
  },
};
const turns = [{ tool_calls: [{ name: "weather", arguments: { city: "Graz" } }] }, { text: "It rains." }];
const runner = client.chat.completions.runTools({ model, messages: user(script(turns)), tools: [tool], stream: true });
assert.equal(await runner.finalContent(), "It rains.");
assert.deepEqual(looked, ["Graz"]);

const turn = client.responses.stream({ model, input: script({ reasoning: "Hm.", text: "Yes." }) });
assert.equal((await turn.finalResponse()).output_text, "Yes.");

const file = await client.files.create({ file: await toFile(Buffer.from('{"a": 1}\n'), "lines.jsonl"), purpose: "batch" });
assert.equal(await (await client.files.content(file.id)).text(), '{"a": 1}\n');
await client.files.delete(file.id);

assert.deepEqual((await client.models.list()).data.map(({ id }) => id), [model]);
const refused = client.chat.completions.create({ model, messages: user("hi"), temperature: 9 });
await assert.rejects(refused, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");

const left = await client.chat.completions.create({ model, messages: user(script({ text: "x".repeat(5000), rate: 50 })), stream: true });
for await (const _ of left) break; // leaves in mid-answer
