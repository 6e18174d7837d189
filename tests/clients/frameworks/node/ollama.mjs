// The official JavaScript client, as a program of a user has it. Usage: node ollama.mjs URL REGISTRY_HOST
import assert from 'node:assert/strict'
import { Ollama } from 'ollama'

const client = new Ollama({ host: process.argv[2] })
const hi = [{ role: 'user', content: 'Hi!' }]
const HELLO = 'Hello! I am a small model, and I say the same to everybody.'
const THOUGHT = 'The user greets me, so I greet back.'

const whole = await client.chat({ model: 'talker', messages: hi })
assert.equal(whole.message.content, HELLO)
assert.equal(whole.done_reason, 'stop')

let text = ''
for await (const part of await client.chat({ model: 'talker', messages: hi, stream: true })) {
  text += part.message.content
}
assert.equal(text, HELLO)

const thinking = await client.chat({ model: 'thinker', messages: hi, think: true })
assert.equal(thinking.message.thinking.trim(), THOUGHT)
assert.equal(thinking.message.content, HELLO)

const tools = [{
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather of a city',
    parameters: {
      type: 'object',
      required: ['city'],
      properties: { city: { type: 'string', description: 'A city' } }
    }
  }
}]
const ask = [{ role: 'user', content: 'How is the weather in Paris?' }]
const called = await client.chat({ model: 'caller', messages: ask, tools })
assert.deepEqual(called.message.tool_calls[0].function.arguments, { city: 'Paris' })
const result = { role: 'tool', content: '21 degrees', tool_name: 'get_weather' }
const told = await client.chat({ model: 'caller', messages: [...ask, called.message, result], tools })
assert.equal(told.message.content, 'It is 21 degrees and sunny.')

const calls = []
for await (const part of await client.chat({ model: 'caller', messages: ask, tools, stream: true })) {
  calls.push(...(part.message.tool_calls ?? []))
}
assert.deepEqual(calls.map(call => call.function.arguments), [{ city: 'Paris' }])
const silent = await client.chat({ model: 'thinker', messages: hi, think: false })
assert.deepEqual([silent.message.content, silent.message.thinking], [HELLO, undefined])

const schema = { type: 'object', properties: { a: { enum: [1, 2] } }, required: ['a'] }
const answer = await client.chat({ model: 'tiny', messages: hi, format: schema })
assert.ok([1, 2].includes(JSON.parse(answer.message.content).a))

const abortable = await client.generate({ model: 'tiny', prompt: 'x', stream: true, raw: true })
await assert.rejects(async () => {
  for await (const _ of abortable) abortable.abort()
})
const embedded = await client.embed({ model: 'talker', input: ['a', 'b'] })
assert.equal(embedded.embeddings.length, 2)
await assert.rejects(client.chat({ model: 'missing', messages: hi }), /not found/)

// The routes about models. A registry that runs beside the daemon gets one and gives it back.
const registry = process.argv[3]
await client.create({ model: 'js', from: 'talker', system: 'Be brief.' })
const steps = []
for await (const part of await client.create({ model: 'js-2', from: 'js', stream: true })) {
  steps.push(part.status)
}
assert.equal(steps.at(-1), 'success')
await client.copy({ source: 'js', destination: `${registry}/me/js` })
const pushed = await client.push({ model: `${registry}/me/js`, insecure: true })
assert.equal(pushed.status, 'success')
await client.delete({ model: `${registry}/me/js` })
const pulled = await client.pull({ model: `${registry}/me/js`, insecure: true })
assert.equal(pulled.status, 'success')
const names = (await client.list()).models.map(model => model.name)
for (const name of ['js:latest', 'js-2:latest', `${registry}/me/js:latest`]) assert.ok(names.includes(name))
assert.equal((await client.show({ model: 'js' })).system, 'Be brief.')
assert.equal((await client.generate({ model: `${registry}/me/js`, prompt: 'Hi' })).response, HELLO)
assert.ok((await client.ps()).models.length > 0)
assert.match((await client.version()).version, /^0\.\d+/)
assert.equal((await client.embeddings({ model: 'talker', prompt: 'a' })).embedding.length, embedded.embeddings[0].length)
for (const model of ['js', 'js-2', `${registry}/me/js`]) await client.delete({ model })
await assert.rejects(client.show({ model: 'js' }), /not found/)
console.log('ok')
