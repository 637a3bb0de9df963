"""What is searched: a copy of each message's text in which only equal characters differ."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from llmproviders.fields import ExactTextField

from .conversations import Message


class SearchText(models.Model):
    """A message's text as ``search.folding`` writes it: without case, accents and differences of form.

    Those of a conversation are found by way of its messages: an index of their own would be written with each.
    """

    message = models.OneToOneField(
        Message, verbose_name=_("message"), on_delete=models.CASCADE, primary_key=True, related_name="search_text"
    )
    text = ExactTextField(_("text"))

    class Meta:
        verbose_name = _("search text")
        verbose_name_plural = _("search texts")

    def __str__(self) -> str:
        return str(self.message_id)
