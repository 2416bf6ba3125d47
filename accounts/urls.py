from django.urls import path

from . import passkey_views, views

app_name = "accounts"

urlpatterns = [
    path("auth/register", views.RegisterView.as_view(), name="register"),
    path("auth/reauthenticate", views.ReauthenticationView.as_view(), name="reauthenticate"),
    path("auth/account/delete", views.AccountDeletionView.as_view(), name="delete_account"),
    path("auth/password", views.PasswordView.as_view(), name="password"),
    path("auth/password/change", views.PasswordChangeView.as_view(), name="change_password"),
    path("auth/password/reset", views.PasswordResetRequestView.as_view(), name="request_reset"),
    path("auth/password/reset/check", views.PasswordResetLinkView.as_view(), name="check_reset_link"),
    path("auth/password/reset/confirm", views.PasswordResetView.as_view(), name="reset_password"),
    path("auth/email/verify", views.EmailVerificationView.as_view(), name="verify_email"),
    path("auth/email/verify/check", views.VerificationLinkView.as_view(), name="check_verification_link"),
    path("auth/email/resend", views.VerificationRequestView.as_view(), name="request_verification"),
    path("auth/second-factor", views.SecondFactorView.as_view(), name="second_factor"),
    path("auth/second-factor/confirm", views.SecondFactorConfirmationView.as_view(), name="confirm_second_factor"),
    path("auth/second-factor/recovery-codes", views.RecoveryCodesView.as_view(), name="renew_recovery_codes"),
    path("auth/second-factor/remove", views.SecondFactorRemovalView.as_view(), name="remove_second_factor"),
    *passkey_views.urlpatterns,
]
