from channels.generic.websocket import WebsocketConsumer


class Chat(WebsocketConsumer):
    def connect(self):
        self.accept("chat")
        self.send(f"Hello, {self.scope['user']}")

    def receive(self, text_data):
        self.send(text_data)
