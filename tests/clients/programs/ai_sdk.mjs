// The Vercel AI SDK against a Millstream: node ai_sdk.mjs BASE_URL MODEL
import assert from "node:assert/strict";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, name] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "millstream", baseURL, includeUsage: true, supportsStructuredOutputs: true });
const model = provider(name);
const script = (says) => `script: ${JSON.stringify(says)}`;

const whole = await generateText({ model, prompt: script({ reasoning: "Hm.", text: "Hello." }) });
assert.equal(whole.text, "Hello.");
assert.equal(whole.reasoningText.trim(), "Hm.");
assert.ok(whole.usage.outputTokens > 0);

const stream = streamText({ model, prompt: script({ text: "one two" }) });
let streamed = "";
for await (const part of stream.textStream) streamed += part;
assert.equal(streamed, "one two");
assert.equal(await stream.finishReason, "stop");
assert.ok((await stream.usage).totalTokens > 0);

const looked = [];
const weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => { looked.push(city); return "rain"; },
});
const called = [{ name: "weather", arguments: { city: "Graz" } }];
const turns = [{ reasoning: "Hm.", tool_calls: called }, { text: "It rains." }];
const openai = createOpenAI({ baseURL, apiKey: "none" }); // its own models speak the Responses API
const anthropic = createAnthropic({ baseURL, apiKey: "none" });
for (const one of [model, openai(name), openai.chat(name), anthropic(name)]) {
  const asked = { model: one, prompt: script(turns), tools: { weather }, stopWhen: stepCountIs(3), maxOutputTokens: 500 };
  assert.equal((await generateText(asked)).text, "It rains.");
  assert.equal(await streamText(asked).text, "It rains.");
}
assert.deepEqual(looked, Array(8).fill("Graz"));

const { object } = await generateObject({
  model,
  schema: z.object({ name: z.string(), inhabitants: z.number() }),
  prompt: script({ text: '{"name": "Graz", "inhabitants": 3}' }),
});
assert.deepEqual(object, { name: "Graz", inhabitants: 3 });

await assert.rejects(
  generateText({ model, prompt: "hi", temperature: 9, maxRetries: 0 }),
  (error) => error.statusCode === 400 && /temperature/.test(error.message),
);
