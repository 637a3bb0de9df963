"""Which model is asked, what it gets to see, and which one answers instead."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection
from dataclasses import dataclass

from .. import conf
from ..database import db
from ..database.compiled import Select, given
from ..database.transactions import replayed
from ..engine import completions, prompts, said
from ..engine.completions import CompletionRequest, Endpoint
from ..engine.producer import ReplyOptions
from ..exceptions import NotFound
from ..models import Attachment, Conversation, Generation, Message, UserConfig
from ..models.parts import Texts
from . import attachments
from .branches import branch

logger = logging.getLogger("conversations.generation")

_config_of = Select(lambda: UserConfig.objects.owned_by(given(UserConfig, "user_identifier")))


def config_of(user_identifier: str) -> UserConfig | None:
    """Return what somebody has set, None where they have set nothing."""
    return _config_of.first(user_identifier=user_identifier)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model gets to see: made for one, and anew for another that answers instead."""

    conversation: Conversation
    message: Texts
    leaf_id: int | None
    config: UserConfig | None
    options: ReplyOptions

    def endpoint(self) -> Endpoint:
        """Decide which model answers."""
        asked, conversation = self.options.model_type, self.conversation.model_type
        return completions.endpoint_for(asked=asked, conversation=conversation, config=self.config)

    def request(self, endpoint: Endpoint) -> CompletionRequest:
        """Return what a model is asked. Reads the database."""
        settings, options = conf.get(), self.options
        own = self.config.max_tokens if self.config else None
        messages, max_tokens = prompts.fit(
            endpoint=endpoint,
            system_prompt=self.conversation.system_prompt,
            message=self.message,
            history=branch(self.leaf_id, self.conversation),
            max_tokens=options.max_tokens or own or endpoint.max_tokens or settings.MAX_TOKENS,
            tools=options.tools,
        )
        temperature = options.temperature if options.temperature is not None else endpoint.temperature
        return CompletionRequest(
            messages=messages,
            temperature=settings.TEMPERATURE if temperature is None else temperature,
            max_tokens=max_tokens,
            tools=options.tools,
            params=options.params,
        )

    async def switched(self, generation_id: uuid.UUID, answer_id: int, endpoint: Endpoint) -> CompletionRequest:
        """Let another model answer: the answer's row says so, and it gets a prompt of its own."""
        request = await db.read(self.request, endpoint)
        await db.write(_switch, generation_id, answer_id, endpoint, prompts.request_tokens(endpoint, request))
        return request


@replayed
def _switch(generation_id: uuid.UUID, answer_id: int, endpoint: Endpoint, prompt_tokens: int) -> None:
    running = Generation.objects.running().filter(pk=generation_id)
    if running.update(
        estimated_prompt_tokens=prompt_tokens, input_price=endpoint.input_price, output_price=endpoint.output_price
    ):
        Message.objects.filter(pk=answer_id).update(model=endpoint.model, model_type=endpoint.model_type)


async def with_images(conversation_id: int, request: CompletionRequest) -> CompletionRequest:
    """Return the request with its images as models take them; of one whose file is lost the model is told."""
    ids = said.images_in(request.messages)
    urls = await db.files(_data_urls, conversation_id, ids) if ids else {}
    return said.with_images(request, urls) if ids else request


def _data_urls(conversation_id: int, ids: Collection[str]) -> dict[str, str]:
    found = {}
    for attachment in Attachment.objects.filter(conversation=conversation_id, pk__in=ids):
        try:
            found[str(attachment.pk)] = attachments.data_url(attachment)
        except Exception as error:  # of whatever storage; an answer without it is better than none
            reason = "is lost" if isinstance(error, NotFound) else f"cannot be read ({_name_of(error)})"
            logger.error("the file of attachment %s %s: it is not shown to the model", attachment.pk, reason)
    return found


def _name_of(error: Exception) -> str:
    """Return what kind of error it is, or that which it came of."""
    return type(error.__cause__ or error).__name__


def prepared(
    conversation: Conversation, message: Texts, leaf_id: int | None, label: str | None, options: ReplyOptions
) -> tuple[Endpoint, CompletionRequest, Prompt]:
    """Decide which model answers, and what it gets to see."""
    identifier = conversation.user_identifier if label is None else label
    prompt = Prompt(conversation, message, leaf_id, config_of(identifier), options)
    endpoint = prompt.endpoint()
    request = prompt.request(endpoint)
    completions.check_abilities(endpoint, request, images="attachments", results="tool_results")
    return endpoint, request, prompt
