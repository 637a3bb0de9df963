"""Model fields: text that is encrypted in the database, with the form field that never shows it; exact text."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django import forms
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import ExpressionWrapper, F, Value
from django.db.models.lookups import Exact, IsNull
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from . import conf

if TYPE_CHECKING:
    _CharField = models.CharField[Any, Any]
    _TextField = models.TextField[str, str]
    _BigIntegerField = models.BigIntegerField[Any, Any]
    _Exact = Exact[Any]
    _Stored = ExpressionWrapper[F]
else:
    _CharField = models.CharField
    _TextField = models.TextField
    _BigIntegerField = models.BigIntegerField
    _Exact = Exact
    _Stored = ExpressionWrapper

ENVIRONMENT = "env:"
# In dumps it stands before a ciphertext. No key may begin so (``net.guard.validate_key``).
ENCRYPTED = "encrypted:"
HIDDEN = "••••"


class DecryptionFailed(Exception):
    """A stored value that no key of ``LLMPROVIDERS["ENCRYPTION_KEYS"]`` opens; names the column, not the value."""


def _exact(parameters: Any, connection: BaseDatabaseWrapper) -> Any:
    """Return a column's parameters with a collation under which only equal characters are equal."""
    if connection.vendor == "mysql":
        # Of the binary ones, those that do not leave blanks at the end out of account.
        is_mariadb = getattr(connection, "mysql_is_mariadb")  # noqa: B009
        parameters["collation"] = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
    return parameters


class ExactCharField(_CharField):
    """A name or key: equal only if every character is, on every database.

    MySQL and MariaDB would take ``kim``, ``Kim`` and ``kim `` for the same by default.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        return _exact(super().db_parameters(connection), connection)


class ExactTextField(_TextField):
    """The same for a text of any length."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        return _exact(super().db_parameters(connection), connection)


class RowNumberField(_BigIntegerField):
    """A number of 64 bits as a primary key: on SQLite the number of the row itself, which no other type is."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "integer" if connection.vendor == "sqlite" else super().db_type(connection)


def mask(secret: str) -> str:
    """Return what may be shown of a secret: dots, with the last four characters of a long one.

    ``env:NAME`` is no secret and is returned as it is; ``""`` stays ``""``.
    """
    if not secret or secret.startswith(ENVIRONMENT):
        return secret
    return HIDDEN + secret[-4:] if len(secret) >= 12 else HIDDEN


class EncryptedTextField(_TextField):
    """Text that is kept as a Fernet token: the first key of the settings encrypts, every key decrypts.

    ``""`` and NULL are stored as they are, so that "is there one?" can be asked of the database:
    ``filter(key="")`` and ``key__isnull``. Every other lookup raises ``FieldError``, because equal texts have
    different tokens. Reading raises ``DecryptionFailed``. Values written with expressions or raw SQL are not
    encrypted. In forms it is a ``SecretField``; in dumps (``dumpdata``) it is ``encrypted:`` and a token, which
    ``loaddata`` takes back where one of the encryption keys opens it.
    """

    description = _("Encrypted text")

    def get_db_prep_save(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        prepared = super().get_db_prep_save(value, connection)
        if not isinstance(prepared, str) or not prepared:
            return prepared
        return _cipher().encrypt(prepared.encode()).decode()

    def from_db_value(self, value: str | None, expression: Any, connection: BaseDatabaseWrapper) -> str | None:
        return self._decrypted(value) if value else value

    def value_to_string(self, obj: models.Model) -> str:
        """Return what a dump holds: a ciphertext, never the secret."""
        value = self.value_from_object(obj)
        return f"{ENCRYPTED}{_cipher().encrypt(value.encode()).decode()}" if value else ""

    def to_python(self, value: Any) -> Any:
        """Return the value that a dump holds; a ciphertext is decrypted, or raises ``DecryptionFailed``.

        Only for dumps: what people enter never comes here, or somebody could enter another's ciphertext as
        their own key and have it sent, decrypted, to a server of theirs.
        """
        text = super().to_python(value)
        if isinstance(text, str) and text.startswith(ENCRYPTED):
            return self._decrypted(text.removeprefix(ENCRYPTED))
        return text

    def get_prep_value(self, value: Any) -> Any:
        return super().to_python(models.Field.get_prep_value(self, value))

    def clean(self, value: Any, model_instance: models.Model | None) -> Any:
        value = super().to_python(value)
        self.validate(value, model_instance)
        self.run_validators(value)
        return value

    def rotated(self, token: str) -> str | None:
        """Return a stored ciphertext under the first encryption key, None if it is so already.

        Raises ``DecryptionFailed``. Read such with ``ciphertext`` and write them with ``as_stored``.
        """
        with suppress(InvalidToken):
            Fernet(conf.get().ENCRYPTION_KEYS[0]).decrypt(token.encode())
            return None
        try:
            return _cipher().rotate(token.encode()).decode()
        except InvalidToken:
            raise self._undecipherable() from None

    def get_lookup(self, lookup: str) -> Any:
        return {"isnull": IsNull, "exact": _IsEmpty}.get(lookup) or self._refuse(lookup)

    def get_transform(self, lookup_name: str) -> Any:
        self._refuse(lookup_name)

    def formfield(self, **kwargs: Any) -> Any:
        # Not defaults: the admin asks for a text area here, which would show the secret.
        return super().formfield(**{**kwargs, "form_class": SecretField, "widget": SecretInput})

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        if data is not None:
            super().save_form_data(instance, data)

    def _decrypted(self, token: str) -> str:
        try:
            return _cipher().decrypt(token.encode()).decode()
        except InvalidToken:
            raise self._undecipherable() from None

    def _undecipherable(self) -> DecryptionFailed:
        problem = gettext(
            "A value of %(column)s cannot be decrypted with any of the encryption keys. "
            "Put back the key that it was written with, or enter the value again."
        )
        return DecryptionFailed(problem % {"column": f"{self.model._meta.db_table}.{self.column}"})

    def _refuse(self, lookup: str) -> NoReturn:
        raise FieldError(f"{self.name} is encrypted: it can be compared with '' and NULL only, not by {lookup!r}.")


class _IsEmpty(_Exact):
    def __init__(self, lhs: Any, rhs: Any) -> None:
        if rhs != "":
            raise FieldError("An encrypted field can be compared with '' and NULL only.")
        super().__init__(lhs, rhs)


def ciphertext(name: str) -> _Stored:
    """Return an encrypted field as it is stored, for ``annotate`` and ``filter``; nothing decrypts it."""
    return _Stored(F(name), output_field=models.TextField())


def as_stored(token: str) -> Value:
    """Return a ciphertext, for ``update``; nothing encrypts it once more."""
    return Value(token, output_field=models.TextField())


class SecretInput(forms.PasswordInput):
    """An empty password input, the masked secret as its placeholder, and a box to clear what is stored."""

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        hint = {"placeholder": value} if value else {}
        return super().get_context(name, None, {"autocomplete": "new-password", **(attrs or {}), **hint})

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        html = super().render(name, value, attrs, renderer)
        if not value:
            return html
        clear = _clear_name(name)
        return format_html('{} <label><input type="checkbox" name="{}"> {}</label>', html, clear, _("Clear"))

    def value_from_datadict(self, data: Any, files: Any, name: str) -> str | None:
        """Return what was typed, ``""`` to clear what is stored, None to keep it."""
        return data.get(name) or ("" if data.get(_clear_name(name)) else None)

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data and _clear_name(name) not in data


class SecretField(forms.CharField):
    """A secret that can be entered, replaced or cleared, never seen. Cleans to None for "as it was"."""

    widget = SecretInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "required": False})

    def clean(self, value: Any) -> Any:
        return None if value is None else super().clean(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return data is not None

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial

    def prepare_value(self, value: Any) -> str:
        return mask(value or "")


def _clear_name(name: str) -> str:
    return f"{name}-clear"


def _cipher() -> MultiFernet:
    return _cipher_for(tuple(conf.get().ENCRYPTION_KEYS))


@lru_cache(maxsize=8)
def _cipher_for(keys: tuple[str, ...]) -> MultiFernet:
    if not keys:
        raise ImproperlyConfigured(
            f"{conf.NAME}['ENCRYPTION_KEYS'] is empty: keys of models cannot be stored or read."
        )
    return MultiFernet([Fernet(key) for key in keys])
