"""The routes: each reads its body, has an order made of it, and says how the answer is written."""

from gateway.routes import chat, completions, health, models, requests

ROUTERS = (chat.router, completions.router, models.router, requests.router, health.router)
